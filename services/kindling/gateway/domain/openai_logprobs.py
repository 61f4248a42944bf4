"""OpenAI's two shapes of log-probabilities."""

from collections.abc import Sequence
from typing import Any

from kindling.gateway.domain.events import ChosenLogprob, NamedLogprob


def chat_logprobs(logprobs: Sequence[ChosenLogprob]) -> dict[str, Any]:
    """Return the shape of chat completions."""
    content = [{**_entry(item.chosen), "top_logprobs": [_entry(top) for top in item.top]} for item in logprobs]
    return {"content": content, "refusal": None}


def completion_logprobs(logprobs: Sequence[ChosenLogprob], offset: int) -> dict[str, Any]:
    """Return the shape of legacy completions; ``offset`` is where the first token begins in the text."""
    offsets: list[int] = []
    for item in logprobs:
        offsets.append(offset)
        offset += len(item.chosen.text)
    return {
        "tokens": [item.chosen.text for item in logprobs],
        "token_logprobs": [item.chosen.logprob for item in logprobs],
        "top_logprobs": [{top.text: top.logprob for top in item.top} for item in logprobs],
        "text_offset": offsets,
    }


def _entry(token: NamedLogprob) -> dict[str, Any]:
    return {"token": token.text, "logprob": token.logprob, "bytes": list(token.token_bytes)}

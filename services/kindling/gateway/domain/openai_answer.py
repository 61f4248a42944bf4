"""OpenAI's answers: whole bodies, and the chunks of a stream rendered with as little work per token as possible."""

from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from kindling.gateway.domain.events import ChoiceEnded, ChosenLogprob, Completed, Delta, FinishReason
from kindling.gateway.domain.openai_logprobs import chat_logprobs, completion_logprobs
from kindling.gateway.domain.request import AnswerOptions

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """What every body of one answer repeats."""

    answer_id: str
    created_seconds: int
    model: str


@dataclass(slots=True)
class Choice:
    """One choice of an answer that is collected before it is sent."""

    index: int
    pieces: list[str] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[ChosenLogprob] = field(default_factory=list)
    reason: FinishReason | None = None

    def add(self, delta: Delta) -> None:
        """Append a piece."""
        self.pieces.append(delta.text)
        self.token_ids += delta.token_ids
        self.logprobs += delta.logprobs


class AnswerFormat(Protocol):
    """One of OpenAI's two dialects. Chunks are whole server-sent events."""

    def opening(self, index: int) -> bytes:
        """Return what is sent before the first piece of a choice; may be empty."""
        ...

    def piece(self, delta: Delta) -> bytes:
        """Return the chunk of a piece."""
        ...

    def ending(self, ended: ChoiceEnded) -> bytes:
        """Return the chunk that says why a choice ended."""
        ...

    def usage(self, completed: Completed) -> bytes:
        """Return the chunk with the usage; it has no choices."""
        ...

    def whole(self, choices: list[Choice], prompts: tuple[tuple[int, ...], ...], completed: Completed) -> bytes:
        """Return the body of an answer that is not streamed."""
        ...


def usage_of(completed: Completed) -> dict[str, int]:
    """Return OpenAI's usage object."""
    prompt, completion = completed.prompt_tokens, completed.completion_tokens
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def event_of(data: bytes) -> bytes:
    """Return ``data`` as one server-sent event."""
    return b"data: " + data + b"\n\n"


class _Format:
    """What the two dialects share: the head, rendered once, and the objects around choices."""

    _chunk_object: str
    _whole_object: str

    def __init__(self, head: AnswerHead, options: AnswerOptions) -> None:
        self._head = head
        self._options = options
        self._chunk_head = b"data: " + self._object(self._chunk_object)[:-1] + b',"choices":['
        self._chunk_tail = b'],"usage":null}\n\n' if options.include_usage else b"]}\n\n"

    def usage(self, completed: Completed) -> bytes:
        """Return the chunk with the usage."""
        return self._chunk_head + b'],"usage":' + orjson.dumps(usage_of(completed)) + b"}\n\n"

    def _chunk(self, choice: dict[str, Any]) -> bytes:
        return self._chunk_head + orjson.dumps(choice) + self._chunk_tail

    def _object(self, name: str) -> bytes:
        head = self._head
        return orjson.dumps(
            {"id": head.answer_id, "object": name, "created": head.created_seconds, "model": head.model}
        )

    def _body(self, choices: list[dict[str, Any]], completed: Completed) -> bytes:
        rest = orjson.dumps({"choices": choices, "usage": usage_of(completed)})
        return self._object(self._whole_object)[:-1] + b"," + rest[1:]


class ChatFormat(_Format):
    """The dialect of /v1/chat/completions."""

    _chunk_object = "chat.completion.chunk"
    _whole_object = "chat.completion"

    def opening(self, index: int) -> bytes:
        """Return the chunk that names the role."""
        return self._chunk({"index": index, "delta": {"role": "assistant", "content": ""}, "finish_reason": None})

    def piece(self, delta: Delta) -> bytes:
        """Return the chunk of a piece."""
        if delta.logprobs or self._options.return_token_ids:
            return self._chunk(self._rich_piece(delta))
        return b'%b{"index":%d,"delta":{"content":%b},"finish_reason":null}%b' % (
            self._chunk_head,
            delta.index,
            orjson.dumps(delta.text),
            self._chunk_tail,
        )

    def ending(self, ended: ChoiceEnded) -> bytes:
        """Return the chunk that says why a choice ended."""
        return self._chunk({"index": ended.index, "delta": {}, "finish_reason": ended.reason.value})

    def whole(self, choices: list[Choice], prompts: tuple[tuple[int, ...], ...], completed: Completed) -> bytes:
        """Return the body of an answer that is not streamed."""
        return self._body([self._choice(choice, prompts) for choice in choices], completed)

    def _choice(self, choice: Choice, prompts: tuple[tuple[int, ...], ...]) -> dict[str, Any]:
        assert choice.reason is not None
        return {
            "index": choice.index,
            "message": {"role": "assistant", "content": "".join(choice.pieces), "refusal": None},
            "logprobs": chat_logprobs(choice.logprobs) if choice.logprobs else None,
            "finish_reason": choice.reason.value,
            **_token_ids(choice, prompts, self._options),
        }

    def _rich_piece(self, delta: Delta) -> dict[str, Any]:
        return {
            "index": delta.index,
            "delta": {"content": delta.text},
            "logprobs": chat_logprobs(delta.logprobs) if delta.logprobs else None,
            "finish_reason": None,
            **({"token_ids": delta.token_ids} if self._options.return_token_ids else {}),
        }


class CompletionFormat(_Format):
    """The dialect of /v1/completions."""

    _chunk_object = "text_completion"
    _whole_object = "text_completion"

    def __init__(self, head: AnswerHead, options: AnswerOptions) -> None:
        super().__init__(head, options)
        self._offsets: dict[int, int] = {}  # characters sent, by choice, for text_offset

    def opening(self, index: int) -> bytes:  # noqa: ARG002 - the other dialect needs it
        """Return nothing: this dialect has no opening."""
        return b""

    def piece(self, delta: Delta) -> bytes:
        """Return the chunk of a piece."""
        if delta.logprobs or self._options.return_token_ids:
            return self._chunk(self._rich_piece(delta))
        return b'%b{"index":%d,"text":%b,"logprobs":null,"finish_reason":null}%b' % (
            self._chunk_head,
            delta.index,
            orjson.dumps(delta.text),
            self._chunk_tail,
        )

    def ending(self, ended: ChoiceEnded) -> bytes:
        """Return the chunk that says why a choice ended."""
        choice = {"index": ended.index, "text": "", "logprobs": None, "finish_reason": ended.reason.value}
        return self._chunk(choice)

    def whole(self, choices: list[Choice], prompts: tuple[tuple[int, ...], ...], completed: Completed) -> bytes:
        """Return the body of an answer that is not streamed."""
        return self._body([self._choice(choice, prompts) for choice in choices], completed)

    def _choice(self, choice: Choice, prompts: tuple[tuple[int, ...], ...]) -> dict[str, Any]:
        assert choice.reason is not None
        return {
            "index": choice.index,
            "text": "".join(choice.pieces),
            "logprobs": completion_logprobs(choice.logprobs, 0) if choice.logprobs else None,
            "finish_reason": choice.reason.value,
            **_token_ids(choice, prompts, self._options),
        }

    def _rich_piece(self, delta: Delta) -> dict[str, Any]:
        offset = self._offsets.get(delta.index, 0)
        self._offsets[delta.index] = offset + sum(len(item.chosen.text) for item in delta.logprobs)
        return {
            "index": delta.index,
            "text": delta.text,
            "logprobs": completion_logprobs(delta.logprobs, offset) if delta.logprobs else None,
            "finish_reason": None,
            **({"token_ids": delta.token_ids} if self._options.return_token_ids else {}),
        }


def _token_ids(choice: Choice, prompts: tuple[tuple[int, ...], ...], options: AnswerOptions) -> dict[str, Any]:
    if not options.return_token_ids:
        return {}
    return {"token_ids": choice.token_ids, "prompt_token_ids": prompts[choice.index // options.n]}

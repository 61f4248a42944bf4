"""A client of the OpenAI API, as small as the demo needs it: one prompt in, text out as it comes."""

import http.client
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from kindling.platform.errors import InternalError

_TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came, and how long its first text took since the request was sent."""

    text: str
    first_token_seconds: float


@dataclass(frozen=True, slots=True)
class Question:
    """What to ask. ``chat`` is false for models without a chat template: the text is then continued."""

    model: str
    text: str
    max_tokens: int
    chat: bool = True

    @property
    def path(self) -> str:
        """The endpoint that takes it."""
        return "/v1/chat/completions" if self.chat else "/v1/completions"

    @property
    def body(self) -> bytes:
        """The request's JSON."""
        prompt = {"messages": [{"role": "user", "content": self.text}]} if self.chat else {"prompt": self.text}
        return json.dumps(
            {"model": self.model, "stream": True, "seed": 1, "max_tokens": self.max_tokens} | prompt
        ).encode()


def ask(url: str, question: Question, on_text: Callable[[str], None]) -> Answer:
    """Ask the server at ``url`` and pass each piece of text on; blocks. REQUEST_FAILED if it does not answer well."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=_TIMEOUT_SECONDS)
    begun = time.monotonic()
    try:
        connection.request("POST", question.path, question.body, {"content-type": "application/json"})
        pieces, first = _read(connection.getresponse(), begun, on_text)
    except (OSError, http.client.HTTPException) as error:
        raise InternalError(f"{url} broke off: {error}", reason="REQUEST_FAILED") from error
    finally:
        connection.close()
    return Answer("".join(pieces), first)


def _read(response: http.client.HTTPResponse, begun: float, on_text: Callable[[str], None]) -> tuple[list[str], float]:
    if response.status != http.client.OK:
        raise InternalError(f"the gateway answered {response.status}: {_error(response)}", reason="REQUEST_FAILED")
    pieces: list[str] = []
    first = 0.0
    for text in _texts(response):
        first = first or time.monotonic() - begun
        on_text(text)
        pieces.append(text)
    return pieces, first


def _texts(lines: Iterator[bytes] | http.client.HTTPResponse) -> Iterator[str]:
    """Yield the texts of server-sent events; REQUEST_FAILED if the stream does not end as it must."""
    for line in lines:
        data = line.decode().removeprefix("data:").strip()
        if data == "[DONE]":
            return
        if not line.startswith(b"data:"):
            continue
        event = json.loads(data)
        if "error" in event:
            raise InternalError(event["error"].get("message", data), reason="REQUEST_FAILED")
        for choice in event["choices"]:
            if text := choice.get("text") or choice.get("delta", {}).get("content"):
                yield text
    raise InternalError("the stream ended without [DONE]", reason="REQUEST_FAILED")


def _error(response: http.client.HTTPResponse) -> str:
    body = response.read().decode(errors="replace")
    try:
        return str(json.loads(body)["error"]["message"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return body

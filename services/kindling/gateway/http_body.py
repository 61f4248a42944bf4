"""Reads request bodies, of bounded length and of the right kind only."""

import orjson
from starlette.requests import Request

from kindling.platform.errors import CancelledError, InvalidArgumentError


async def read_json(request: Request, max_bytes: int) -> object:
    """Return the body, parsed.

    Raises:
        InvalidArgumentError: CONTENT_TYPE_UNSUPPORTED, BODY_TOO_LARGE or JSON_INVALID (NaN, Infinity and invalid UTF-8
            are not JSON).
        CancelledError: the client went away before its body was here.
    """
    _require_json(request)
    body = await _read(request, max_bytes)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidArgumentError(
            f"The request body is not valid JSON: {error}.", reason="JSON_INVALID", field="body"
        ) from error


def _require_json(request: Request) -> None:
    content_type = request.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise InvalidArgumentError(
            f"Send the body as application/json, not {content_type or 'without a content type'!r}.",
            reason="CONTENT_TYPE_UNSUPPORTED",
        )


async def _read(request: Request, max_bytes: int) -> bytes:
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > max_bytes:
        raise _too_large(max_bytes)
    body, more = b"", True
    parts: list[bytes] = []
    length = 0
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise CancelledError("The client went away.", reason="CLIENT_GONE")
        body, more = message.get("body", b""), message.get("more_body", False)
        length += len(body)
        if length > max_bytes:
            raise _too_large(max_bytes)
        parts.append(body)
    return b"".join(parts)


def _too_large(max_bytes: int) -> InvalidArgumentError:
    return InvalidArgumentError(f"The request body is longer than {max_bytes} bytes.", reason="BODY_TOO_LARGE")

"""Errors as OpenAI's clients expect them."""

import math
from dataclasses import dataclass

import orjson

from kindling.platform.errors import Code, KindlingError

_STATUS = {
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 409,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}
# Reasons that say more about the HTTP answer than their code does.
_STATUS_BY_REASON = {"BODY_TOO_LARGE": 413, "CONTENT_TYPE_UNSUPPORTED": 415, "METHOD_NOT_ALLOWED": 405}
_CODE_BY_REASON = {
    "MODEL_NOT_FOUND": "model_not_found",
    "CONTEXT_LENGTH_EXCEEDED": "context_length_exceeded",
    "API_KEY_INVALID": "invalid_api_key",
}
_TYPE_BY_STATUS = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    503: "service_unavailable_error",
}
_DEFAULT_RETRY_SECONDS = {429: 1.0, 503: 1.0}


@dataclass(frozen=True, slots=True)
class OpenAIError:
    """An HTTP status, the body for it, and after how many whole seconds to try again."""

    status: int
    body: bytes
    retry_after_seconds: int | None


def openai_error(error: KindlingError) -> OpenAIError:
    """Return ``error`` in OpenAI's shape."""
    status = _STATUS_BY_REASON.get(error.reason, _STATUS[error.code])
    content = {
        "message": error.message,
        "type": _TYPE_BY_STATUS.get(status, "invalid_request_error" if status < 500 else "server_error"),
        "param": error.field,
        "code": _CODE_BY_REASON.get(error.reason, error.reason.lower()),
    }
    retry = error.retry_after_seconds if error.retry_after_seconds is not None else _DEFAULT_RETRY_SECONDS.get(status)
    return OpenAIError(status, orjson.dumps({"error": content}), None if retry is None else max(1, math.ceil(retry)))

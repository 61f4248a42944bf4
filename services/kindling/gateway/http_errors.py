"""Errors as HTTP answers."""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from kindling.gateway.domain.openai_error import openai_error
from kindling.platform.errors import InternalError, InvalidArgumentError, KindlingError, NotFoundError


def error_response(error: KindlingError) -> Response:
    """Return ``error`` in OpenAI's shape."""
    answer = openai_error(error)
    headers = {"retry-after": str(answer.retry_after_seconds)} if answer.retry_after_seconds is not None else None
    return Response(answer.body, answer.status, headers, media_type="application/json")


async def http_exception(request: Request, error: Exception) -> Response:
    """Answer what Starlette itself refuses: an unknown path, a wrong method."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        message = f"{request.method} is not allowed on {request.url.path}."
        response = error_response(InvalidArgumentError(message, reason="METHOD_NOT_ALLOWED"))
    else:
        response = error_response(NotFoundError(f"There is nothing at {request.url.path}.", reason="PATH_NOT_FOUND"))
    response.headers.update(error.headers or {})
    return response


async def crashed(_request: Request, _error: Exception) -> Response:
    """Answer after a bug; the log has its trace."""
    return error_response(InternalError("The request failed because of a bug; see the log.", reason="INTERNAL"))

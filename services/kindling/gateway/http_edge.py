"""What every HTTP request passes first: its span, its id, its key, and the translation of errors."""

import secrets
from http import HTTPStatus

from opentelemetry import trace
from opentelemetry.propagate import extract
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kindling.gateway.domain.api_keys import ApiKeys
from kindling.gateway.domain.tenants import TENANT_HEADER
from kindling.gateway.http_errors import error_response
from kindling.platform.errors import KindlingError

tracer = trace.get_tracer(__name__)


class Edge:
    """Starlette middleware. Answers carry ``x-request-id``, which is the id of the request's trace.

    Handlers under ``/v1/`` find the caller's tenant in ``request.state.tenant``.
    """

    def __init__(self, app: ASGIApp, api_keys: ApiKeys) -> None:
        self._app = app
        self._api_keys = api_keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        name = f"{scope['method']} {scope['path'][:64]}"
        asked = {"http.request.method": scope["method"], "url.scheme": scope["scheme"], "url.path": scope["path"][:256]}
        with tracer.start_as_current_span(
            name, context=extract(headers), kind=trace.SpanKind.SERVER, attributes=asked
        ) as span:
            answer = _Answer(send, _request_id(span), span)
            try:
                if scope["path"].startswith("/v1/"):
                    key, claimed = _bytes(headers.get("authorization")), headers.get(TENANT_HEADER)
                    scope.setdefault("state", {})["tenant"] = self._api_keys.require(key, claimed)
                await self._app(scope, receive, answer.send)
            except KindlingError as error:
                # Once the answer has begun, its sender reports errors itself.
                if answer.begun:
                    raise
                await error_response(error)(scope, receive, answer.send)


class _Answer:
    """Adds the request's id to the answer and notes its status on the span."""

    def __init__(self, send: Send, request_id: str, span: trace.Span) -> None:
        self.begun = False
        self._send = send
        self._request_id = request_id
        self._span = span

    async def send(self, message: Message) -> None:
        if not self.begun and message["type"] == "http.response.start":
            self.begun = True
            message["headers"] = [*message.get("headers", ()), (b"x-request-id", self._request_id.encode())]
            self._span.set_attribute("http.response.status_code", message["status"])
            if message["status"] >= HTTPStatus.INTERNAL_SERVER_ERROR:
                self._span.set_status(trace.StatusCode.ERROR)
        await self._send(message)


def _request_id(span: trace.Span) -> str:
    trace_id = span.get_span_context().trace_id
    return f"{trace_id:032x}" if trace_id else secrets.token_hex(16)


def _bytes(header: str | None) -> bytes | None:
    return None if header is None else header.encode("latin-1")

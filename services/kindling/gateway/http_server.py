"""uvicorn inside a service: our loop, our signals, our shutdown."""

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from kindling.platform.errors import FailedPreconditionError

BACKLOG = 2048
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\n\r\n%b"
)
_BODY = (
    b'{"error":{"message":"The request headers are too long.","type":"invalid_request_error",'
    b'"param":null,"code":"headers_too_large"}}'
)


class HttpServer:
    """Serves ``app`` over HTTP/1.1. The port is bound when the object is made, and served while ``serve`` runs."""

    def __init__(
        self, app: ASGIApp, *, host: str, port: int, grace_seconds: float, max_header_bytes: int = 64 * 2**10
    ) -> None:
        self._socket = _bind(host, port)
        self._host = host
        self._server = _EmbeddedServer(
            uvicorn.Config(
                app,
                http=_limited_protocol(max_header_bytes),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=BACKLOG,
                timeout_graceful_shutdown=max(1, round(grace_seconds)),
            )
        )

    @property
    def address(self) -> str:
        """The ``host:port`` that is served."""
        return f"{self._host}:{self._socket.getsockname()[1]}"

    async def serve(self) -> None:
        """Serve until ``stop`` is called and the answers under way have ended, or their grace has."""
        try:
            await self._server.serve(sockets=[self._socket])
        finally:
            self._socket.close()

    def stop(self) -> None:
        """Make ``serve`` return soon."""
        self._server.should_exit = True


class _EmbeddedServer(uvicorn.Server):
    """Leaves the process's signals alone: they belong to the service."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where the protocol is named; with it, chunks wait for 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise FailedPreconditionError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another KINDLING_GATEWAY_HTTP_PORT",
            reason="PORT_IN_USE",
            metadata={"address": f"{host}:{port}"},
        ) from error
    return listener


def _limited_protocol(max_header_bytes: int) -> type[HttpToolsProtocol]:
    """Return uvicorn's protocol with a bound on the length of a request's head, which it has not by itself."""

    class LimitedProtocol(HttpToolsProtocol):
        _head_bytes = 0
        _in_head = False

        def on_message_begin(self) -> None:
            self._in_head, self._head_bytes = True, 0
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            self._in_head = False
            super().on_headers_complete()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._head_bytes += len(data)
            if self._in_head and self._head_bytes > max_header_bytes:
                self._refuse()

        def _refuse(self) -> None:
            transport: Any = self.transport
            transport.write(_TOO_LARGE % (len(_BODY), _BODY))
            transport.close()

    return LimitedProtocol

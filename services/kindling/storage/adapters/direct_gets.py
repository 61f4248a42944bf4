"""Ranged GETs whose bytes go from the socket into the caller's memory.

A library hands out memory of its own, to be copied from; at several GB/s that copy, and the pages it touches, are a
third of the whole cost. So chunks are read here, and only read: whatever is not a plain answer is for the library to
try again and to explain.
"""

import functools
import http.client
import socket
import ssl
import urllib.request
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from kindling.platform.clock import Clock
from kindling.platform.logging import get_logger
from kindling.storage.adapters.io_executor import IoExecutor

log = get_logger(__name__)
SignUrl = Callable[[str], Awaitable[str | None]]
"""Returns a URL at which an object may be read for an hour without credentials, or None where there are no such."""

_SLICE_BYTES = 1 << 20  # after so many, look whether somebody still waits
_URL_SECONDS = 1800.0


class DirectGets:
    """Reads ranges of objects on ``io``'s threads, over connections that are kept: a context manager closes them."""

    def __init__(self, sign: SignUrl, timeout_seconds: float, io: IoExecutor, clock: Clock) -> None:
        self._sign = sign
        self._timeout_seconds = timeout_seconds
        self._io = io
        self._clock = clock
        self._urls: dict[str, tuple[str, float]] = {}
        self._idle: dict[tuple[str, str], deque[http.client.HTTPConnection]] = {}
        self._closed = False

    async def fill(self, path: str, offset: int, into: memoryview) -> bool:
        """Return whether all of ``into`` was read from ``offset`` of the object on; if not, it may hold anything."""
        url = await self._url(path)
        if url is None:
            return False
        transfer = _Transfer(url, offset, into)
        try:
            await self._io.run_interruptibly(lambda: self._read(transfer), transfer.stop)
        except (OSError, http.client.HTTPException) as error:
            log.info("direct_get_failed", path=path, offset=offset, error=str(error) or type(error).__name__)
            self._urls.pop(path, None)
            return False
        return True

    async def _url(self, path: str) -> str | None:
        url, until = self._urls.get(path, ("", 0.0))
        if self._clock.now() < until:
            return url
        fresh = await self._sign(path)
        if fresh is None or _goes_by_a_proxy(fresh):
            return None
        self._urls[path] = (fresh, self._clock.now() + _URL_SECONDS)
        return fresh

    def _read(self, transfer: "_Transfer") -> None:
        scheme, netloc = transfer.server
        idle = self._idle.setdefault(transfer.server, deque())
        if kept := _popped(idle):
            with suppress(ConnectionError):  # servers close connections on which nothing was asked for long
                return self._read_over(kept, transfer, idle)
        return self._read_over(self._connection(scheme, netloc), transfer, idle)

    def _read_over(
        self,
        connection: http.client.HTTPConnection,
        transfer: "_Transfer",
        idle: deque[http.client.HTTPConnection],
    ) -> None:
        try:
            transfer.run(connection)
        except BaseException:
            connection.close()
            raise
        idle.append(connection)
        if self._closed:
            self._close_idle()

    def _connection(self, scheme: str, netloc: str) -> http.client.HTTPConnection:
        if scheme == "https":
            return http.client.HTTPSConnection(netloc, timeout=self._timeout_seconds, context=_tls())
        return http.client.HTTPConnection(netloc, timeout=self._timeout_seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True  # a thread that is still reading closes what it puts back
        self._close_idle()

    def _close_idle(self) -> None:
        for connections in self._idle.values():
            while connection := _popped(connections):
                connection.close()


class _Transfer:
    """One range on its way into ``into``; another thread may stop it."""

    def __init__(self, url: str, offset: int, into: memoryview) -> None:
        self._url = urlsplit(url)
        self._offset = offset
        self._into = into
        self._connection: http.client.HTTPConnection | None = None
        self._stopped = False

    @property
    def server(self) -> tuple[str, str]:
        """Scheme, and host with port."""
        return self._url.scheme, self._url.netloc

    def run(self, connection: http.client.HTTPConnection) -> None:
        """Read the range; HTTPException if the answer is any other than that, or OSError."""
        self._connection = connection
        response = self._ask(connection)
        done = 0
        while done < len(self._into):
            if self._stopped:
                raise http.client.HTTPException("nobody waits for it any more")
            count = response.readinto(self._into[done : done + _SLICE_BYTES])
            if count == 0:
                raise http.client.IncompleteRead(b"", len(self._into) - done)
            done += count

    def stop(self) -> None:
        """Have the thread that runs it end soon."""
        self._stopped = True
        sock: socket.socket | None = getattr(self._connection, "sock", None)
        if sock is not None:
            with suppress(OSError):  # it is closed already
                sock.shutdown(socket.SHUT_RDWR)

    def _ask(self, connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
        last = self._offset + len(self._into) - 1
        target = self._url.path + (f"?{self._url.query}" if self._url.query else "")
        connection.request("GET", target, headers={"Range": f"bytes={self._offset}-{last}"})
        response = connection.getresponse()
        said = response.headers.get("Content-Range", "").partition("/")[0]
        as_asked = said == f"bytes {self._offset}-{last}" and response.length == len(self._into)
        if response.status != http.client.PARTIAL_CONTENT or not as_asked:
            raise http.client.HTTPException(f"{response.status} {response.reason}, {response.length} bytes, {said!r}")
        return response


def _popped(connections: deque[http.client.HTTPConnection]) -> http.client.HTTPConnection | None:
    try:
        return connections.pop()
    except IndexError:
        return None


def _goes_by_a_proxy(url: str) -> bool:
    parts, proxies = urlsplit(url), urllib.request.getproxies()
    there_is_one = parts.scheme in proxies or "all" in proxies
    return there_is_one and not urllib.request.proxy_bypass(parts.hostname or "")


@functools.cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()

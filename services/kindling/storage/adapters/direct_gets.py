"""Ranged GETs whose bytes go from the socket into the caller's memory.

A library hands out memory of its own, to be copied from; at several GB/s that copy, and the pages it touches, are a
third of the whole cost. So chunks are read here, and only read: whatever is not a plain answer is for the library to
try again and to explain.
"""

import functools
import http.client
import ssl
import threading
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
        try:
            await self._io.run_until(functools.partial(self._read, url, offset, into))
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

    def _read(self, url: str, offset: int, into: memoryview, given_up: threading.Event) -> None:
        parts = urlsplit(url)
        idle = self._idle.setdefault((parts.scheme, parts.netloc), deque())
        if kept := _popped(idle):
            with suppress(ConnectionError):  # servers close connections on which nothing was asked for long
                return self._read_over(kept, idle, url, offset, into, given_up)
        return self._read_over(self._connection(parts.scheme, parts.netloc), idle, url, offset, into, given_up)

    def _read_over(
        self,
        connection: http.client.HTTPConnection,
        idle: deque[http.client.HTTPConnection],
        url: str,
        offset: int,
        into: memoryview,
        given_up: threading.Event,
    ) -> None:
        try:
            _get(connection, url, offset, into, given_up)
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


def _get(
    connection: http.client.HTTPConnection, url: str, offset: int, into: memoryview, given_up: threading.Event
) -> None:
    parts, last = urlsplit(url), offset + len(into) - 1
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    connection.request("GET", target, headers={"Range": f"bytes={offset}-{last}"})
    response = connection.getresponse()
    said = response.headers.get("Content-Range", "").partition("/")[0]
    if response.status != http.client.PARTIAL_CONTENT or said != f"bytes {offset}-{last}":
        raise http.client.HTTPException(f"{response.status} {response.reason}, Content-Range {said!r}")
    done = 0
    while done < len(into) and not given_up.is_set():
        count = response.readinto(into[done : done + _SLICE_BYTES])
        if count == 0:
            raise http.client.IncompleteRead(b"", len(into) - done)
        done += count
    if given_up.is_set() or response.read(1):
        raise http.client.HTTPException("given up" if given_up.is_set() else "more bytes came than were asked for")


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

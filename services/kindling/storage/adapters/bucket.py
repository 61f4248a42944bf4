"""A location in an object store: S3, Google Cloud Storage, Azure, or a plain HTTP server."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import from_url

from kindling.platform.backoff import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, Backoff
from kindling.platform.clock import SystemClock
from kindling.platform.errors import DataLossError, FailedPreconditionError, InvalidArgumentError, NotFoundError
from kindling.storage.adapters.bucket_errors import bucket_error, detail, unavailable

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult

_HTTP = frozenset({"http", "https"})
_ENDPOINTS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT", "AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT")
_PART_BYTES = 16 << 20
_MOST_PARTS = 9000  # S3 takes 10,000
_UPLOADS_AT_ONCE = 4
_SIGNED_FOR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class BucketAccess:
    """How stores are talked to. ``timeout_seconds`` bounds a connection attempt and a silence in mid-transfer."""

    anonymous: bool = False
    timeout_seconds: float = 10.0
    retries: int = 4

    @property
    def patience_seconds(self) -> float:
        """After this long nothing is tried once more."""
        return 3 * self.timeout_seconds


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object's size and, where the store has them, the tag of its content."""

    size_bytes: int
    tag: str | None


class Bucket:
    """Objects below ``uri``, by relative path. Credentials come from each cloud's usual environment variables.

    Every method retries what may pass, with capped jittered backoff and within bounded time, and raises NotFoundError
    (OBJECT_NOT_FOUND), PermissionDeniedError (REMOTE_FORBIDDEN) or UnavailableError (REMOTE_UNAVAILABLE) naming the
    object.
    """

    def __init__(self, uri: str, access: BucketAccess) -> None:
        self.uri = uri.rstrip("/")
        self.read_only = urlsplit(uri).scheme in _HTTP
        self._access = access
        self._clock = SystemClock()
        self._store: Any = _open(self.uri, access)

    def name(self, path: str) -> str:
        """The object's URI, for people."""
        return f"{self.uri}/{path}"

    async def info(self, path: str) -> ObjectInfo:
        """Return what the store says of the object."""
        with self._translated(path):
            meta = await obstore.head_async(self._store, path)
        return ObjectInfo(meta["size"], meta["e_tag"])

    async def read(self, path: str, most_bytes: int) -> bytes:
        """Return a small object; DataLossError (OBJECT_TOO_LARGE) if it has more than ``most_bytes``."""
        info = await self.info(path)
        if info.size_bytes > most_bytes:
            raise DataLossError(
                f"{self.name(path)} has {info.size_bytes} bytes; at most {most_bytes} make sense for such a file",
                reason="OBJECT_TOO_LARGE",
                metadata={"uri": self.name(path)},
            )
        data = bytearray(info.size_bytes)
        await self.read_range(path, 0, memoryview(data), tag=info.tag)
        return bytes(data)

    async def read_range(self, path: str, offset: int, into: memoryview, tag: str | None = None) -> None:
        """Fill all of ``into`` from ``offset`` on; a transfer that breaks is made again.

        Raises DataLossError (SOURCE_CHANGED) if the object has another ``tag`` by now.
        """
        if not into:
            return
        failures, started, backoff = 0, self._clock.now(), Backoff(self._clock)
        while trouble := await self._try_range(path, offset, into, tag):
            failures += 1
            if failures > self._access.retries or self._clock.now() - started > self._access.patience_seconds:
                raise unavailable(self.name(path), trouble)
            await backoff.pause()

    async def _try_range(self, path: str, offset: int, into: memoryview, tag: str | None) -> str:
        """Fill ``into`` and return nothing, or return what was wrong with the answer's body."""
        with self._translated(path):
            options: GetOptions = {"range": (offset, offset + len(into))}
            response = await obstore.get_async(self._store, path, options=options)
        self._require_unchanged(path, response, tag)
        try:
            data = memoryview(await response.bytes_async())
        except (BaseError, OSError) as error:
            return detail(error)
        if len(data) != len(into):
            return f"{len(data)} bytes came instead of {len(into)}"
        # From memoryview to memoryview it is one copy; from any other object it goes byte by byte.
        into[:] = data
        return ""

    def _require_unchanged(self, path: str, response: "GetResult", tag: str | None) -> None:
        if tag is not None and response.meta["e_tag"] != tag:
            raise DataLossError(
                f"{self.name(path)} was replaced while it was read; leave it alone and try again",
                reason="SOURCE_CHANGED",
                metadata={"uri": self.name(path)},
            )

    async def signed_url(self, path: str) -> str | None:
        """A URL at which the object can be read for an hour with no more credentials; None where there are no such."""
        if self.read_only:
            return f"{self.uri}/{quote(path)}"
        if self._access.anonymous:
            return None
        try:
            return await obstore.sign_async(self._store, "GET", path, _SIGNED_FOR)
        except (BaseError, OSError, ValueError):  # reading goes without, and says what is wrong if it cannot go either
            return None

    async def names(self, path: str = "") -> frozenset[str] | None:
        """The names of the objects directly in the folder ``path``; None where the store cannot list."""
        if self.read_only:
            return None
        with self._translated(path):
            listing = await obstore.list_with_delimiter_async(self._store, path or None)
        return frozenset(entry["path"].rpartition("/")[2] for entry in listing["objects"])

    async def total_bytes(self) -> int:
        """Bytes of all objects; 0 where the store cannot list."""
        if self.read_only:
            return 0
        total_bytes = 0
        with self._translated(""):
            async for entries in obstore.list(self._store):
                total_bytes += sum(entry["size"] for entry in entries)
        return total_bytes

    def write(self, path: str, size_bytes: int, data: Iterable[bytes]) -> None:
        """Store an object of ``size_bytes``; readers see all of it or nothing. Blocking.

        What ``data`` raises ends the transfer and is raised again.
        """
        guarded = _Guarded(data)
        # A small object takes one request, a large one three at least.
        content = b"".join(guarded) if size_bytes <= _PART_BYTES else guarded
        part_bytes = max(_PART_BYTES, -(-size_bytes // _MOST_PARTS))
        try:
            with self._translated(path):
                obstore.put(self._store, path, content, chunk_size=part_bytes, max_concurrency=_UPLOADS_AT_ONCE)
        finally:
            guarded.raise_again()

    async def delete(self, *paths: str) -> None:
        """Delete objects; those that are not there are no error."""
        for path in paths:
            try:
                with self._translated(path):
                    await obstore.delete_async(self._store, path)
            except NotFoundError:
                continue

    def require_writable(self) -> None:
        """Raise FailedPreconditionError (REMOTE_READ_ONLY) if this is a plain HTTP server."""
        if self.read_only:
            raise FailedPreconditionError(
                f"{self.uri} can only be read: set KINDLING_STORAGE_REMOTE_URI to an s3://, gs://, az:// or file:// "
                "location to pack models into it, or pack elsewhere and copy the result to the server",
                reason="REMOTE_READ_ONLY",
                metadata={"uri": self.uri},
            )

    @contextmanager
    def _translated(self, path: str) -> Iterator[None]:
        try:
            yield
        except (BaseError, OSError, ValueError) as error:
            raise bucket_error(error, self.name(path)) from error


class _Guarded:
    """An iterable whose exception survives being consumed by other languages' code."""

    def __init__(self, data: Iterable[bytes]) -> None:
        self._data = data
        self._error: BaseException | None = None

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._data
        except BaseException as error:
            self._error = error
            raise

    def raise_again(self) -> None:
        if self._error is not None:
            raise self._error


def _open(uri: str, access: BucketAccess) -> Any:
    pause, longest = timedelta(seconds=FIRST_PAUSE_SECONDS), timedelta(seconds=LONGEST_PAUSE_SECONDS)
    scheme, timeout = urlsplit(uri).scheme, timedelta(seconds=access.timeout_seconds)
    plain = scheme == "http" or any(os.environ.get(name, "").startswith("http://") for name in _ENDPOINTS)
    config: Any = {"skip_signature": True} if access.anonymous and scheme not in _HTTP else None
    try:
        return from_url(
            uri,
            config=config,
            client_options={
                "allow_http": plain,
                "connect_timeout": timeout,
                "read_timeout": timeout,
                # Only a bound for what trickles: silence is noticed by the read timeout.
                "timeout": 60 * timeout,
            },
            retry_config={
                "max_retries": access.retries,
                "retry_timeout": timedelta(seconds=access.patience_seconds),
                "backoff": {"init_backoff": pause, "max_backoff": longest, "base": 2},
            },
        )
    except (BaseError, ValueError) as error:
        raise InvalidArgumentError(
            f"{uri} cannot be used: {detail(error)}", reason="REMOTE_URI_INVALID", metadata={"uri": uri}
        ) from error

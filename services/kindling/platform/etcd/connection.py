"""Calls to etcd that survive the loss of an endpoint, of a connection and of a token."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import grpc
import grpc.aio

from kindling.platform.backoff import Backoff
from kindling.platform.clock import Clock
from kindling.platform.errors import AbortedError, InvalidArgumentError, UnavailableError
from kindling.platform.etcd.auth import TokenSource
from kindling.platform.etcd.calls import Metadata, Request, Response, Stream, StreamMethod, UnaryMethod
from kindling.platform.etcd.config import Credentials, TlsConfig
from kindling.platform.etcd.endpoint import Endpoint, NotConnectedError
from kindling.platform.etcd.failures import is_broken, is_stale_token, translate
from kindling.platform.logging import get_logger

log = get_logger(__name__)

CALL_TIMEOUT_SECONDS = 5.0
# An endpoint that takes longer is taken for hung, and the next one is asked.
ATTEMPT_TIMEOUT_SECONDS = 2.0
# Streams on a member that has lost touch with the leader are ended by it rather than left silent.
_REQUIRE_LEADER: Metadata = (("hasleader", "true"),)


class _AttemptFailedError(Exception):
    """An attempt took no effect, or may be repeated even if it did."""


class Connection:
    """The endpoints of one cluster, asked one at a time; the next is asked when one fails."""

    def __init__(
        self, endpoints: Sequence[str], tls: TlsConfig | None, credentials: Credentials | None, clock: Clock
    ) -> None:
        if not endpoints:
            message = "no etcd endpoint is configured; give at least one, like http://127.0.0.1:2379"
            raise InvalidArgumentError(message, reason="ETCD_ENDPOINT_INVALID", field="endpoints")
        self.clock = clock
        self._endpoints = [Endpoint(address, tls) for address in endpoints]
        self._current = 0
        self._tokens = TokenSource(credentials)

    async def close(self) -> None:
        """Close every channel."""
        for endpoint in self._endpoints:
            await endpoint.close()

    async def unary(
        self,
        method: UnaryMethod[Request, Response],
        request: Request,
        *,
        repeatable: bool = True,
        timeout_seconds: float = CALL_TIMEOUT_SECONDS,
    ) -> Response:
        """Return the answer to ``request`` from whichever endpoint gives one within ``timeout_seconds``.

        Raises :class:`UnavailableError` (``ETCD_UNREACHABLE``) when none does, :class:`AbortedError`
        (``ETCD_AMBIGUOUS``) when a request that is not ``repeatable`` may or may not have taken effect.
        """
        deadline = self.clock.now() + timeout_seconds
        backoff = Backoff(self.clock)
        detail = "no time was left"
        while (left := deadline - self.clock.now()) > 0:
            try:
                return await self._attempt(method, request, repeatable, min(left, ATTEMPT_TIMEOUT_SECONDS))
            except _AttemptFailedError as failure:
                detail = str(failure)
            await backoff.pause(at_most_seconds=deadline - self.clock.now())
        raise self._unreachable(detail)

    async def _attempt(
        self, method: UnaryMethod[Request, Response], request: Request, repeatable: bool, timeout_seconds: float
    ) -> Response:
        endpoint = self._endpoints[self._current]
        metadata = await self._prepare(endpoint, timeout_seconds)
        try:
            return await method(endpoint.stubs)(request, timeout=timeout_seconds, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            self._note_failure(endpoint, metadata, error)
            if not repeatable and is_broken(error):
                raise _ambiguous(error) from error
            raise _AttemptFailedError(error.details()) from error

    async def _prepare(self, endpoint: Endpoint, timeout_seconds: float) -> Metadata:
        """Connect and authenticate. Whatever fails here, the request itself was not sent."""
        try:
            await endpoint.connect(timeout_seconds)
            return await self._tokens.metadata(endpoint, timeout_seconds)
        except NotConnectedError as error:
            self._move_on(endpoint)
            raise _AttemptFailedError(str(error)) from error
        except grpc.aio.AioRpcError as error:
            self._note_failure(endpoint, (), error)
            raise _AttemptFailedError(error.details()) from error

    @asynccontextmanager
    async def stream(self, method: StreamMethod[Request, Response]) -> AsyncIterator[Stream[Request, Response]]:
        """Open a stream on the current endpoint; it is cancelled when the context ends.

        Raises :class:`UnavailableError` when it cannot be opened or breaks; opening it again then is right.
        """
        endpoint = self._endpoints[self._current]
        metadata: Metadata = ()
        try:
            metadata = await self._prepare(endpoint, ATTEMPT_TIMEOUT_SECONDS)
            call = method(endpoint.stubs)(metadata=metadata + _REQUIRE_LEADER)
            try:
                yield call
            finally:
                call.cancel()
        except grpc.aio.AioRpcError as error:
            self._note_failure(endpoint, metadata, error)
            raise self._unreachable(error.details()) from error
        except (_AttemptFailedError, asyncio.InvalidStateError, TimeoutError) as error:
            # grpc.aio raises InvalidStateError for writes to a stream that has ended meanwhile.
            self._move_on(endpoint)
            raise self._unreachable(str(error)) from error

    def refuse_token(self) -> None:
        """Drop the token: a stream was told that it is stale."""
        self._tokens.clear()

    def _note_failure(self, endpoint: Endpoint, metadata: Metadata, error: grpc.aio.AioRpcError) -> None:
        """Do what makes the next attempt better; raises the error translated if no attempt can help."""
        if is_stale_token(error.details() or ""):
            self._tokens.forget(metadata)
        elif is_broken(error):
            self._move_on(endpoint)
        else:
            raise translate(error) from error

    def _move_on(self, endpoint: Endpoint) -> None:
        """Let the next endpoint be asked, unless another call has moved on from ``endpoint`` already."""
        if endpoint is self._endpoints[self._current]:
            self._current = (self._current + 1) % len(self._endpoints)
            log.debug("etcd_endpoint_failed", endpoint=endpoint.address)

    def _unreachable(self, detail: str | None) -> UnavailableError:
        addresses = ", ".join(endpoint.address for endpoint in self._endpoints)
        message = f"etcd cannot be reached at {addresses} ({detail or 'no detail'}); check that it runs"
        return UnavailableError(message, reason="ETCD_UNREACHABLE", metadata={"endpoints": addresses})


def _ambiguous(error: grpc.aio.AioRpcError) -> AbortedError:
    message = f"the connection to etcd broke during a transaction ({error.details()}); read whether it took effect"
    return AbortedError(message, reason="ETCD_AMBIGUOUS")

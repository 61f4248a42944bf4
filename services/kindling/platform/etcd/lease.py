"""Leases: keys that hang on one live as long as their holder does."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from kindling.etcdserverpb import rpc_pb2
from kindling.platform.background import alongside
from kindling.platform.backoff import Backoff
from kindling.platform.errors import InvalidArgumentError, KindlingError, NotFoundError, UnavailableError
from kindling.platform.etcd.calls import Stream, StreamCallable
from kindling.platform.etcd.connection import Connection
from kindling.platform.etcd.endpoint import Stubs
from kindling.platform.logging import get_logger

log = get_logger(__name__)
REVOKE_TIMEOUT_SECONDS = 2.0
_RENEWALS_PER_TTL = 3
KeepAliveStream = Stream[rpc_pb2.LeaseKeepAliveRequest, rpc_pb2.LeaseKeepAliveResponse]


def _keep_alive(stubs: Stubs) -> StreamCallable[rpc_pb2.LeaseKeepAliveRequest, rpc_pb2.LeaseKeepAliveResponse]:
    return stubs.lease.LeaseKeepAlive


class Lease:
    """A lease that is being kept alive.

    ``lost`` is set, for good, once the lease is known to be gone or may be: no renewal was answered for its time to
    live on the monotonic clock, counted from when the last answered one was *sent*. It is set before etcd deletes the
    keys, never after.
    """

    def __init__(self, connection: Connection, lease_id: int, ttl_seconds: int, expires_at: float) -> None:
        self.lease_id = lease_id
        self.ttl_seconds = ttl_seconds
        self.lost = asyncio.Event()
        self._connection = connection
        self._clock = connection.clock
        self._expires_at = expires_at

    async def revoke(self) -> None:
        """End the lease and delete its keys now; without effect if it is gone. Bounded to two seconds.

        If etcd cannot be reached in that time the keys go when the time to live is over.
        """
        self.lost.set()
        request = rpc_pb2.LeaseRevokeRequest(ID=self.lease_id)
        with suppress(NotFoundError, UnavailableError):
            await self._connection.unary(
                lambda stubs: stubs.lease.LeaseRevoke, request, timeout_seconds=REVOKE_TIMEOUT_SECONDS
            )

    async def watch_expiry(self) -> None:
        """Set ``lost`` once the time to live has passed without a renewal."""
        while (left := self._expires_at - self._clock.now()) > 0:
            await self._clock.sleep(left)
        self._lose("no renewal was answered in time")

    async def keep_alive(self) -> None:
        """Renew until the lease is lost, over new streams whenever one breaks."""
        backoff = Backoff(self._clock, longest_seconds=min(1.0, self.ttl_seconds / _RENEWALS_PER_TTL))
        while not self.lost.is_set():
            try:
                async with self._connection.stream(_keep_alive) as stream:
                    await self._renew_regularly(stream, backoff)
            except UnavailableError:
                await backoff.pause()
            except KindlingError as error:
                self._lose(error.message)

    async def _renew_regularly(self, stream: KeepAliveStream, backoff: Backoff) -> None:
        while not self.lost.is_set():
            await self._renew(stream)
            backoff.reset()
            await self._clock.sleep(self.ttl_seconds / _RENEWALS_PER_TTL)

    async def _renew(self, stream: KeepAliveStream) -> None:
        sent_at = self._clock.now()
        async with asyncio.timeout(self.ttl_seconds / _RENEWALS_PER_TTL):
            await stream.write(rpc_pb2.LeaseKeepAliveRequest(ID=self.lease_id))
            answer = await stream.read()
        if not isinstance(answer, rpc_pb2.LeaseKeepAliveResponse):
            raise UnavailableError("etcd ended the stream of renewals", reason="ETCD_UNREACHABLE")
        if answer.TTL > 0:
            self._expires_at = sent_at + answer.TTL
        else:
            self._lose("etcd no longer knows it")

    def _lose(self, cause: str) -> None:
        if not self.lost.is_set():
            self.lost.set()
            log.warning("etcd_lease_lost", lease_id=f"{self.lease_id:x}", cause=cause)


async def grant(connection: Connection, ttl_seconds: float) -> Lease:
    """Return a new lease of ``ttl_seconds``, rounded up to whole ones; nothing keeps it alive yet."""
    if not 0 < ttl_seconds < math.inf:
        message = f"a lease cannot live {ttl_seconds} seconds; give a positive number"
        raise InvalidArgumentError(message, reason="ETCD_TTL_INVALID", field="ttl_seconds")
    sent_at = connection.clock.now()
    request = rpc_pb2.LeaseGrantRequest(TTL=math.ceil(ttl_seconds))
    answer = await connection.unary(lambda stubs: stubs.lease.LeaseGrant, request)
    return Lease(connection, answer.ID, answer.TTL, sent_at + answer.TTL)


@asynccontextmanager
async def hold_lease(connection: Connection, ttl_seconds: float) -> AsyncIterator[Lease]:
    """Grant a lease, keep it alive during the context, revoke it after."""
    lease = await grant(connection, ttl_seconds)
    try:
        async with alongside(lease.keep_alive(), lease.watch_expiry()):
            yield lease
    finally:
        await lease.revoke()

"""One leader among many candidates, fenced: who was deposed can change nothing."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager

from kindling.platform.background import alongside, unless
from kindling.platform.errors import AbortedError, FailedPreconditionError, NotFoundError, UnavailableError
from kindling.platform.etcd.client import EtcdClient
from kindling.platform.etcd.lease import Lease
from kindling.platform.etcd.txn import Compare, Get, GetResult, Operation, Put, Relation, TxnResult, absent
from kindling.platform.etcd.values import EventKind, KeyValue, Snapshot, WatchUpdate
from kindling.platform.logging import get_logger

log = get_logger(__name__)


class Leadership:
    """An election won. ``fence`` must be among the compares of every transaction that only the leader may make.

    ``lost`` is set, for good, once the leadership is over or may be: the lease was lost, or the key was deleted.
    """

    def __init__(self, client: EtcdClient, lease: Lease, key: str, create_revision: int) -> None:
        self.key = key
        self.revision = create_revision
        self.fence = Compare.create_revision(key, Relation.EQUAL, create_revision)
        self.lost = asyncio.Event()
        self._client = client
        self._lease = lease

    async def transact(
        self, compares: Sequence[Compare], then: Sequence[Operation], otherwise: Sequence[Operation] = ()
    ) -> TxnResult:
        """Do as :meth:`EtcdClient.transact` does, but only as the leader.

        Raises :class:`FailedPreconditionError` (``LEADERSHIP_LOST``) if somebody else may lead by now: nothing of
        ``then`` has been done (but ``otherwise`` has, so let it only read).
        """
        result = await self._client.transact([self.fence, *compares], then, [*otherwise, Get(self.key)])
        if result.succeeded:
            return result
        self._check(result)
        return TxnResult(result.succeeded, result.revision, result.responses[:-1])

    async def resign(self) -> None:
        """Give the leadership up at once, so that another candidate can have it."""
        self.lost.set()
        await self._lease.revoke()

    def _check(self, result: TxnResult) -> None:
        leader = result.responses[-1]
        if isinstance(leader, GetResult) and any(item.create_revision == self.revision for item in leader.items):
            return
        self.lost.set()
        message = f"the leadership at {self.key} was lost; stop acting as the leader and campaign again"
        raise FailedPreconditionError(message, reason="LEADERSHIP_LOST", metadata={"key": self.key})

    async def watch_loss(self) -> None:
        """Set ``lost`` once the lease is lost or the key is no longer ours."""
        await unless(self._lease.lost, self._key_gone())
        if not self.lost.is_set():
            self.lost.set()
            log.warning("leadership_lost", key=self.key, revision=self.revision)

    async def _key_gone(self) -> None:
        async with aclosing(self._client.watch_key(self.key)) as updates:
            async for update in updates:
                holder = _holder(update)
                if holder is None or holder.create_revision != self.revision:
                    return


@asynccontextmanager
async def campaign(client: EtcdClient, key: str, value: bytes, ttl_seconds: float) -> AsyncIterator[Leadership]:
    """Wait to become the leader at ``key`` (which then holds ``value``), lead during the context, resign after.

    Waits as long as it takes, through outages of etcd too. A leader that dies is followed ``ttl_seconds`` later at
    the most (rounded up, as etcd does), one that leaves at once.
    """
    while True:
        async with AsyncExitStack() as stack:
            if (leadership := await _run_for_office(stack, client, key, value, ttl_seconds)) is None:
                continue
            await stack.enter_async_context(alongside(leadership.watch_loss()))
            try:
                yield leadership
            finally:
                leadership.lost.set()
            return


async def _run_for_office(
    stack: AsyncExitStack, client: EtcdClient, key: str, value: bytes, ttl_seconds: float
) -> Leadership | None:
    """Return the leadership, or ``None`` if we had no lease, or not for long enough."""
    try:
        lease = await stack.enter_async_context(client.lease(ttl_seconds))
        revision = await unless(lease.lost, _win(client, lease, Put(key, value, lease.lease_id)))
    except (UnavailableError, NotFoundError):
        return None  # etcd was away, or has let the lease expire meanwhile
    return None if revision is None else Leadership(client, lease, key, revision)


async def _win(client: EtcdClient, lease: Lease, claim: Put) -> int:
    """Wait until the key is ours; return the revision of its creation."""
    async with aclosing(client.watch_key(claim.key)) as updates:
        async for update in updates:
            holder = _holder(update) or await _try_to_win(client, claim)
            if holder is not None and holder.lease_id == lease.lease_id:
                return holder.create_revision
    raise AssertionError("a watch ended by itself")


async def _try_to_win(client: EtcdClient, claim: Put) -> KeyValue | None:
    """Create the key unless it exists; return it as it then is, if it is known to be."""
    while True:
        try:
            await client.transact([absent(claim.key)], [claim])
            return await client.get(claim.key)
        except AbortedError:
            log.debug("etcd_claim_unanswered", key=claim.key)  # repeated: it cannot succeed twice


def _holder(update: WatchUpdate) -> KeyValue | None:
    """Return the key as it is after ``update``, or ``None`` if it is absent."""
    if isinstance(update, Snapshot):
        return update.items[0] if update.items else None
    last = update.events[-1]
    return last.item if last.kind is EventKind.PUT else None

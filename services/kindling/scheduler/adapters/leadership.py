"""The election among schedulers, in etcd."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress

from kindling.platform.clock import Clock
from kindling.platform.errors import KindlingError
from kindling.platform.etcd import EtcdClient, EventKind, Leadership, Put, WatchUpdate, campaign
from kindling.platform.etcd import Snapshot as EtcdSnapshot
from kindling.platform.etcd_records import decode_record, encode_record, leader_key
from kindling.scheduler.adapters.etcd_store import EtcdStore
from kindling.scheduler.ports import Leader
from kindling.scheduler.wire import seconds_of, timestamp
from kindling.v1 import state_pb2


class EtcdOffice:
    """A leadership with the store that it may write."""

    def __init__(self, leadership: Leadership, store: EtcdStore, leader: Leader) -> None:
        self._leadership = leadership
        self.revision = leadership.revision
        self.store = store
        self.leader = leader

    async def lost(self) -> None:
        """Return once the leadership is over."""
        await self._leadership.lost.wait()


class EtcdElection:
    """Campaigns for the leader's key, and reads from it who leads."""

    def __init__(
        self, etcd: EtcdClient, prefix: str, ttl_seconds: float, scheduler_id: str, address: str, clock: Clock
    ) -> None:
        self._etcd = etcd
        self._prefix = prefix
        self._key = leader_key(prefix)
        self._ttl_seconds = ttl_seconds
        self._scheduler_id = scheduler_id
        self._address = address
        self._clock = clock

    @asynccontextmanager
    async def campaign(self) -> AsyncIterator[EtcdOffice]:
        """Wait to lead; leading ends with the context."""
        async with campaign(self._etcd, self._key, self._record(), self._ttl_seconds) as leadership:
            leader = Leader(self._scheduler_id, self._address, self._clock.wall(), is_self=True)
            await self._announce(leadership)
            yield EtcdOffice(leadership, EtcdStore(self._etcd, leadership, self._prefix, self._clock), leader)

    async def _announce(self, leadership: Leadership) -> None:
        """Correct the time in the record, which is that of the candidacy. For people: no harm is done if it fails."""
        with suppress(KindlingError):
            if (claim := await self._etcd.get(self._key)) is not None:
                await leadership.transact([], [Put(self._key, self._record(), claim.lease_id)])

    def _record(self) -> bytes:
        since = timestamp(self._clock.wall())
        return encode_record(
            state_pb2.LeaderRecord(scheduler_id=self._scheduler_id, address=self._address, since=since)
        )

    async def leaders(self) -> AsyncIterator[Leader | None]:
        """Yield who leads, now and at every change."""
        async with aclosing(self._etcd.watch_key(self._key)) as updates:
            async for update in updates:
                yield self._leader(update)

    def _leader(self, update: WatchUpdate) -> Leader | None:
        if (value := _value(update)) is None:
            return None
        record = decode_record(state_pb2.LeaderRecord, value)
        is_self = (record.scheduler_id, record.address) == (self._scheduler_id, self._address)
        return Leader(record.scheduler_id, record.address, seconds_of(record.since), is_self)


def _value(update: WatchUpdate) -> bytes | None:
    if isinstance(update, EtcdSnapshot):
        return update.items[0].value if update.items else None
    last = update.events[-1]
    return last.item.value if last.kind is EventKind.PUT else None

"""Writes of a leader that take effect once each and in their order, however late a message of theirs arrives."""

import asyncio
from collections.abc import Sequence

from kindling.platform.clock import Clock
from kindling.platform.errors import AbortedError, UnavailableError
from kindling.platform.etcd import Compare, Get, GetResult, KeyValue, Leadership, Operation, Put, Relation, TxnResult
from kindling.platform.etcd_records import encode_record
from kindling.platform.logging import get_logger
from kindling.v1 import state_pb2

log = get_logger(__name__)
_PAUSE_SECONDS = 0.2


class OrderedWrites:
    """The writes of one leadership, one after the other.

    A write whose answer was lost is sent again, and either of the two may reach etcd at any later time. So each write
    leaves a mark at one key, and takes effect only while the mark there is the one that was there before.
    """

    def __init__(self, leadership: Leadership, key: str, clock: Clock) -> None:
        self._leadership = leadership
        self._key = key
        self._clock = clock
        self._turn = asyncio.Lock()
        self._number = 0
        self._marked_at = 0  # the revision of the mark that is there, as far as we know

    async def write(self, operations: Sequence[Operation]) -> None:
        """Write all or nothing, once, and through outages. Raises FailedPreconditionError LEADERSHIP_LOST."""
        async with self._turn:
            self._number += 1
            mark = self._mark()
            while not await self._try(operations, mark):
                pass

    def _mark(self) -> Put:
        record = state_pb2.LastWriteRecord(leader_revision=self._leadership.revision, number=self._number)
        return Put(self._key, encode_record(record))

    async def _try(self, operations: Sequence[Operation], mark: Put) -> bool:
        """Write, and return whether it is known to be done."""
        is_next = Compare.mod_revision(self._key, Relation.EQUAL, self._marked_at)
        try:
            result = await self._leadership.transact([is_next], [*operations, mark], [Get(self._key)])
        except (AbortedError, UnavailableError) as error:
            log.warning("record_delayed", reason=error.reason)
            await self._clock.sleep(_PAUSE_SECONDS)
            return False
        if result.succeeded:
            self._marked_at = result.revision
            return True
        found = _found(result)
        self._marked_at = found.mod_revision if found else 0
        return found is not None and found.value == mark.value


def _found(result: TxnResult) -> KeyValue | None:
    (read,) = result.responses
    return read.items[0] if isinstance(read, GetResult) and read.items else None

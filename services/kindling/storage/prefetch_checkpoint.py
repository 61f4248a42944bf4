"""Brings the head of a checkpoint from the SSD to DRAM before anybody asks for it, and gives way to whoever does."""

from dataclasses import dataclass

from kindling.platform.clock import Clock
from kindling.platform.errors import DataLossError
from kindling.platform.logging import get_logger
from kindling.storage.catalog import KnownCheckpoint
from kindling.storage.domain.give_way import GiveWay
from kindling.storage.domain.prefetched import Prefetched, PrefetchOutcome
from kindling.storage.domain.rate_limit import RateLimit
from kindling.storage.domain.tier import Tier
from kindling.storage.open_checkpoint import OpenCheckpoint
from kindling.storage.pacing import no_sooner
from kindling.storage.ports import SsdCopy
from kindling.storage.publisher import Publisher
from kindling.storage.tiers import Tiers

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PrefetchOrder:
    """The head of a checkpoint to bring, how fast, and at whose cost: see :meth:`ChunkPool.make_prefetch_room`."""

    digest: str
    head_bytes: int
    bytes_per_second: float = 0.0
    unused_limit_bytes: int = 0
    give_way: tuple[GiveWay, ...] = ()


class PrefetchCheckpoint:
    """Prefetches chunk by chunk, in execution order, one read at a time. Between two chunks it owns nothing: what it
    brought stays as long as anything else that nobody has open.
    """

    def __init__(self, tiers: Tiers, opened: OpenCheckpoint, publisher: Publisher, clock: Clock) -> None:
        self._tiers = tiers
        self._opened = opened
        self._publisher = publisher
        self._clock = clock

    async def prefetch(self, order: PrefetchOrder) -> Prefetched:
        """Bring what is missing of the head; returns as soon as it gives way. A cancelled caller stops it.

        Raises NotFoundError with reason CHECKPOINT_NOT_FOUND if nobody knows the checkpoint.
        """
        result = Prefetched()
        try:
            if not await self._opened.prefetches.run(self._bring(order, result)):
                result.outcome = PrefetchOutcome.YIELDED
        finally:
            self._publisher.note(order.digest)
        log.info(
            "prefetch_ended", digest=order.digest, outcome=result.outcome.value, prefetched_bytes=result.size_bytes
        )
        return result

    async def _bring(self, order: PrefetchOrder, result: Prefetched) -> None:
        known = await self._tiers.catalog.get(order.digest)
        wanted = known.geometry.chunks_of_head(order.head_bytes)
        pace = RateLimit(int(order.bytes_per_second))
        next_chunk = self._tiers.pool.filled_chunks(order.digest)
        outcome: PrefetchOutcome | None = None
        while next_chunk < wanted and outcome is None:
            async with no_sooner(pace, known.lengths[next_chunk], self._clock):
                outcome = await self._bring_alone(known, next_chunk, order)
            if outcome is None:
                result.size_bytes += known.lengths[next_chunk]
                next_chunk += 1
        result.outcome = outcome or PrefetchOutcome.DONE

    async def _bring_alone(self, known: KnownCheckpoint, chunk: int, order: PrefetchOrder) -> PrefetchOutcome | None:
        """Bring a chunk while the checkpoint is neither opened nor evicted; returns why that cannot be, or nothing."""
        opened, digest = self._opened, order.digest
        async with opened.locks.hold(digest), opened.between_loads():
            if opened.is_open(digest) or self._tiers.pool.filled_chunks(digest) != chunk:
                return PrefetchOutcome.YIELDED
            self._tiers.pool.pin(digest, known.lengths)
            try:
                return await self._bring_pinned(known, chunk, order)
            finally:
                self._tiers.pool.unpin(digest)

    async def _bring_pinned(self, known: KnownCheckpoint, chunk: int, order: PrefetchOrder) -> PrefetchOutcome | None:
        copy = await self._open_copy(known)
        if copy is None:
            return PrefetchOutcome.NO_COPY
        try:
            return await self._read(known, copy, chunk, order)
        except DataLossError as error:
            # A load that needs the chunk repairs it, or says what is wrong.
            log.warning("prefetch_met_bad_chunk", digest=order.digest, chunk=chunk, error=error.message)
            return PrefetchOutcome.NO_COPY
        finally:
            copy.close()
            self._tiers.ledger.unpin(order.digest)

    async def _open_copy(self, known: KnownCheckpoint) -> SsdCopy | None:
        digest, ledger = known.manifest.digest, self._tiers.ledger
        if not ledger.has(digest):
            return None
        ledger.pin(digest)
        try:
            return await self._tiers.ssd.open(known.manifest)
        except BaseException as error:
            ledger.unpin(digest)
            if isinstance(error, DataLossError):
                return None
            raise

    async def _read(
        self, known: KnownCheckpoint, copy: SsdCopy, chunk: int, order: PrefetchOrder
    ) -> PrefetchOutcome | None:
        tiers, length = self._tiers, known.lengths[chunk]
        buffer = tiers.pool.make_prefetch_room(order.digest, order.give_way, order.unused_limit_bytes)
        if buffer is None:
            return PrefetchOutcome.NO_ROOM
        tiers.memory.recycle((buffer,))
        async with no_sooner(tiers.limits.get(Tier.SSD), length, self._clock):
            await copy.read_chunk(chunk, tiers.memory.view(buffer))
        tiers.pool.mark_prefetched(order.digest)
        self._publisher.note(order.digest)
        return None

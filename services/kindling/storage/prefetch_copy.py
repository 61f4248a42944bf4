"""Copies a checkpoint from the remote store to the SSD before anybody asks for it, and gives way to whoever does."""

import mmap
from dataclasses import dataclass

from kindling.platform.clock import Clock
from kindling.platform.errors import DataLossError, ResourceExhaustedError, UnavailableError
from kindling.platform.logging import get_logger
from kindling.storage.catalog import KnownCheckpoint
from kindling.storage.domain.prefetched import Prefetched, PrefetchOutcome
from kindling.storage.domain.rate_limit import RateLimit
from kindling.storage.domain.tier import Tier
from kindling.storage.open_checkpoint import OpenCheckpoint
from kindling.storage.pacing import no_sooner
from kindling.storage.ports import ChunkSource
from kindling.storage.publisher import Publisher
from kindling.storage.tiers import Tiers

log = get_logger(__name__)
_PAGE_BYTES = 4096
_TROUBLE = (DataLossError, ResourceExhaustedError, UnavailableError)


@dataclass(frozen=True, slots=True)
class CopyOrder:
    """The checkpoint to copy, how fast, and at whose cost: the SSD copies of ``give_way`` may be dropped for it, the
    first first, and no more than ``unused_limit_bytes`` in all were prefetched and not used since."""

    digest: str
    bytes_per_second: float = 0.0
    unused_limit_bytes: int = 0
    give_way: tuple[str, ...] = ()


class PrefetchCopy:
    """Copies chunk by chunk. While one comes from the store, it holds nothing that a load might want; what is written
    when it is cut short is there for the next copy, or the next load, to go on with.
    """

    def __init__(self, tiers: Tiers, opened: OpenCheckpoint, publisher: Publisher, clock: Clock) -> None:
        self._tiers = tiers
        self._opened = opened
        self._publisher = publisher
        self._clock = clock

    async def prefetch(self, order: CopyOrder) -> Prefetched:
        """Copy what is missing on the SSD; returns as soon as it gives way. A cancelled caller stops it.

        Raises NotFoundError with reason CHECKPOINT_NOT_FOUND if nobody knows the checkpoint.
        """
        result = Prefetched()
        try:
            if not await self._opened.copies.run(self._copy(order, result)):
                result.outcome = PrefetchOutcome.YIELDED
        finally:
            self._publisher.note(order.digest)
        log.info("copy_ended", digest=order.digest, outcome=result.outcome.value, prefetched_bytes=result.size_bytes)
        return result

    async def _copy(self, order: CopyOrder, result: Prefetched) -> None:
        known = await self._tiers.catalog.get(order.digest)
        try:
            result.outcome = await self._copy_known(known, order, result)
        except _TROUBLE as error:
            # A load that needs the chunk tries again, or says what is wrong.
            log.warning("copy_met_trouble", digest=order.digest, error=error.message)
            result.outcome = PrefetchOutcome.NO_COPY

    async def _copy_known(self, known: KnownCheckpoint, order: CopyOrder, result: Prefetched) -> PrefetchOutcome:
        if self._tiers.ledger.has(order.digest):
            return PrefetchOutcome.DONE
        missing = await self._begin(known, order)
        if isinstance(missing, PrefetchOutcome):
            return missing
        source = await self._tiers.remote.open(known.manifest)
        try:
            pace = RateLimit(int(order.bytes_per_second))
            into = memoryview(mmap.mmap(-1, -(-max(known.lengths) // _PAGE_BYTES) * _PAGE_BYTES))
            for chunk in missing:
                if not await self._bring(known, source, chunk, into, pace):
                    return PrefetchOutcome.YIELDED
                result.size_bytes += known.lengths[chunk]
        finally:
            source.close()
        return await self._seal(known)

    async def _begin(self, known: KnownCheckpoint, order: CopyOrder) -> list[int] | PrefetchOutcome:
        """Have a copy that can be written to; returns the chunks that it lacks, or why there is none."""
        digest, ledger = order.digest, self._tiers.ledger
        async with self._opened.locks.hold(digest):
            if self._opened.is_open(digest):
                return PrefetchOutcome.YIELDED
            if not ledger.has_partial(digest):
                if not await self._make_room(known.geometry.total_bytes, order):
                    return PrefetchOutcome.NO_ROOM
                await self._create(known)
            await self._tiers.keep_files(known)
            copy = await self._tiers.ssd.resume(known.manifest)
            try:
                return [chunk for chunk in range(len(known.lengths)) if not copy.has_chunk(chunk)]
            finally:
                copy.close()

    async def _make_room(self, size_bytes: int, order: CopyOrder) -> bool:
        """Drop copies that may give way until another fits; nothing is dropped for what is not allowed in any case."""
        tiers, ledger = self._tiers, self._tiers.ledger
        if ledger.unused_bytes + size_bytes > order.unused_limit_bytes:
            return False
        others = (name for name in order.give_way if ledger.has(name) and not ledger.is_pinned(name))
        while not (ledger.fits(size_bytes) and tiers.ssd.available_bytes() >= 2 * size_bytes):
            if (victim := next(others, None)) is None:
                return False
            await tiers.drop_copy(victim)
        return True

    async def _create(self, known: KnownCheckpoint) -> None:
        digest = known.manifest.digest
        self._tiers.ledger.add(digest, known.geometry.total_bytes, sealed=False)
        try:
            copy = await self._tiers.ssd.create(known.manifest)
        except BaseException:
            self._tiers.ledger.remove(digest)
            raise
        copy.close()

    async def _bring(
        self, known: KnownCheckpoint, source: ChunkSource, chunk: int, into: memoryview, pace: RateLimit
    ) -> bool:
        """Bring a chunk; false if the copy is not this prefetch's to write any more."""
        length = known.lengths[chunk]
        remote_limit = self._tiers.limits.get(Tier.REMOTE)
        async with no_sooner(pace, length, self._clock), no_sooner(remote_limit, length, self._clock):
            await source.read_chunk(chunk, into)
            return await self._write(known, chunk, into[:length])

    async def _write(self, known: KnownCheckpoint, chunk: int, data: memoryview) -> bool:
        digest, ledger = known.manifest.digest, self._tiers.ledger
        async with self._opened.locks.hold(digest):
            if self._opened.is_open(digest) or not ledger.has_partial(digest):
                return False
            ledger.pin(digest)
            try:
                copy = await self._tiers.ssd.resume(known.manifest)
                try:
                    await copy.write_chunk(chunk, data)
                finally:
                    copy.close()
            finally:
                ledger.unpin(digest)
            ledger.mark_prefetched(digest, len(data))
            return True

    async def _seal(self, known: KnownCheckpoint) -> PrefetchOutcome:
        digest, ledger = known.manifest.digest, self._tiers.ledger
        async with self._opened.locks.hold(digest):
            if self._opened.is_open(digest) or not ledger.has_partial(digest):
                return PrefetchOutcome.YIELDED
            ledger.pin(digest)
            try:
                copy = await self._tiers.ssd.resume(known.manifest)
                try:
                    await copy.seal()
                finally:
                    copy.close()
                ledger.seal(digest)
            finally:
                ledger.unpin(digest)
            return PrefetchOutcome.DONE

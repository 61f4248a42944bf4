"""Reads a checkpoint's chunks at every tier, and puts good ones in the place of bad ones."""

import asyncio
import mmap
from collections.abc import AsyncGenerator
from contextlib import ExitStack
from dataclasses import dataclass

from kindling.checkpoint.checksum import chunk_checksum
from kindling.platform.errors import DataLossError, KindlingError
from kindling.platform.logging import get_logger
from kindling.storage.catalog import KnownCheckpoint
from kindling.storage.domain.tier import Tier
from kindling.storage.domain.verdict import BadChunk, TierVerdict, Verdict
from kindling.storage.load_checkpoint import LazyRemote
from kindling.storage.open_checkpoint import OpenCheckpoint
from kindling.storage.ports import SsdCopy
from kindling.storage.publisher import Publisher
from kindling.storage.tiers import Tiers

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class VerifyOrder:
    """What to verify, whether to repair, and whether to read the remote store too."""

    digest: str
    repair: bool = False
    check_remote: bool = False


@dataclass(frozen=True, slots=True)
class VerifyProgress:
    """Bytes of the checkpoint that were checked, of how many."""

    done_bytes: int
    total_bytes: int


class VerifyCheckpoint:
    """Verifies one chunk at a time, between loads and never beside one: the disk is theirs."""

    def __init__(self, tiers: Tiers, opened: OpenCheckpoint, publisher: Publisher) -> None:
        self._tiers = tiers
        self._opened = opened
        self._publisher = publisher

    async def verify(self, order: VerifyOrder) -> AsyncGenerator[VerifyProgress | Verdict, None]:
        """Yield progress and, last, the verdict: damage is found, not raised.

        Raises NotFoundError (CHECKPOINT_NOT_FOUND) or DataLossError (MANIFEST_INVALID) if there is no manifest.
        """
        known = await self._tiers.catalog.get(order.digest)
        total_bytes, done_bytes = known.geometry.total_bytes, 0
        with ExitStack() as resources:
            work = _Verification(self._tiers, known, order)
            resources.callback(work.close)
            await work.open()
            for chunk, length in enumerate(known.lengths):
                async with self._opened.between_loads():
                    await work.verify(chunk)
                done_bytes += length
                yield VerifyProgress(done_bytes, total_bytes)
            verdict = work.verdict()
        self._conclude(verdict)
        yield verdict

    def _conclude(self, verdict: Verdict) -> None:
        ssd = [tier for tier in verdict.tiers if tier.tier is Tier.SSD]
        if ssd and verdict.is_intact and self._tiers.ledger.has(verdict.digest):
            self._tiers.verified.add(verdict.digest)
        report = log.info if verdict.is_intact else log.error
        bad = {t.tier.name: [f"{b.problem} (repaired: {b.repaired})" for b in t.bad_chunks] for t in verdict.tiers}
        report("checkpoint_verified", digest=verdict.digest, bad_chunks=bad, quarantined=verdict.quarantined)
        self._publisher.note(verdict.digest)


class _Verification:
    """One pass over a checkpoint; ``close`` it."""

    def __init__(self, tiers: Tiers, known: KnownCheckpoint, order: VerifyOrder) -> None:
        self._tiers = tiers
        self._known = known
        self._order = order
        self._staging = memoryview(mmap.mmap(-1, max(known.geometry.chunk_bytes, mmap.PAGESIZE)))
        self._remote = LazyRemote(tiers.remote, known.manifest)
        self._copy: SsdCopy | None = None
        self._checked: dict[Tier, int] = {}
        self._bad: dict[Tier, list[BadChunk]] = {}
        self._quarantined = False

    async def open(self) -> None:
        """Open the SSD copy; one that cannot be opened is found bad."""
        if self._tiers.ledger.has(self._order.digest):
            try:
                self._copy = await self._tiers.ssd.open(self._known.manifest)
            except DataLossError as error:
                self._note(Tier.SSD, 0, error.message, repaired=False)
                await self._quarantine()

    async def verify(self, chunk: int) -> None:
        """Check one chunk wherever it is."""
        remote_problem = await self._check_remote(chunk) if self._order.check_remote else None
        if self._copy is not None and self._tiers.ledger.has(self._order.digest):
            await self._check_ssd(chunk, self._copy, remote_problem)
        await self._check_dram(chunk)

    async def _check_remote(self, chunk: int) -> KindlingError | None:
        problem = await self._read_remote(chunk)
        self._count(Tier.REMOTE)
        if problem is not None:
            self._note(Tier.REMOTE, chunk, problem.message, repaired=False)
        return problem

    async def _check_ssd(self, chunk: int, copy: SsdCopy, remote_problem: KindlingError | None) -> None:
        self._count(Tier.SSD)
        try:
            await copy.read_chunk(chunk, self._staging)
        except DataLossError as error:
            await self._treat_ssd(chunk, copy, error, remote_problem)

    async def _treat_ssd(
        self, chunk: int, copy: SsdCopy, error: DataLossError, remote_problem: KindlingError | None
    ) -> None:
        if not self._order.repair:
            self._note(Tier.SSD, chunk, error.message, repaired=False)
            return
        problem = remote_problem or await self._read_remote(chunk)
        if problem is None:
            problem = await self._write(chunk, copy)
        elif isinstance(problem, DataLossError):
            await self._quarantine()
        why = f"{error.message}; it was not repaired: {problem.message}" if problem else error.message
        self._note(Tier.SSD, chunk, why, repaired=problem is None)

    async def _read_remote(self, chunk: int) -> KindlingError | None:
        """Bring the chunk from the remote store into the staging memory."""
        try:
            await (await self._remote.get()).read_chunk(chunk, self._staging)
        except KindlingError as error:
            return error
        return None

    async def _write(self, chunk: int, copy: SsdCopy) -> KindlingError | None:
        try:
            await copy.write_chunk(chunk, self._staging[: self._known.lengths[chunk]])
            await copy.read_chunk(chunk, self._staging)
        except KindlingError as error:
            return error
        return None

    async def _quarantine(self) -> None:
        self._quarantined = True
        self._tiers.ledger.remove(self._order.digest)
        await self._tiers.ssd.quarantine(self._order.digest)

    async def _check_dram(self, chunk: int) -> None:
        """A bad chunk in memory that nobody uses is dropped with its checkpoint; one in use can only be told of."""
        pool, digest = self._tiers.pool, self._order.digest
        if chunk >= pool.filled_chunks(digest):
            return
        pool.pin(digest, self._known.lengths)
        try:
            data = self._tiers.memory.view(pool.buffers(digest)[chunk])[: self._known.lengths[chunk]]
            actual = await asyncio.to_thread(chunk_checksum, data)
        finally:
            pool.unpin(digest)
        self._count(Tier.DRAM)
        if actual != self._known.manifest.chunk_checksum(chunk):
            dropped = bool(self._order.repair and pool.evict(digest))
            advice = "it was dropped" if dropped else "stop the model's instances and evict it"
            self._note(
                Tier.DRAM, chunk, f"chunk {chunk} in memory does not match its checksum; {advice}", repaired=dropped
            )

    def _count(self, tier: Tier) -> None:
        self._checked[tier] = self._checked.get(tier, 0) + 1

    def _note(self, tier: Tier, chunk: int, problem: str, *, repaired: bool) -> None:
        self._bad.setdefault(tier, []).append(BadChunk(chunk, problem, repaired))

    def verdict(self) -> Verdict:
        """What was found."""
        tiers = sorted(self._checked.keys() | self._bad.keys())
        found = (TierVerdict(tier, self._checked.get(tier, 0), tuple(self._bad.get(tier, ()))) for tier in tiers)
        return Verdict(self._order.digest, tuple(found), self._quarantined)

    def close(self) -> None:
        """Close what was opened."""
        self._remote.close()
        if self._copy is not None:
            self._copy.close()

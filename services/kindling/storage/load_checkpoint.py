"""One load: brings the chunks that are missing, several in flight, each verified, from the fastest tier that has it."""

import asyncio
import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kindling.checkpoint.manifest import Manifest
from kindling.platform.clock import Clock
from kindling.platform.error_groups import first_error
from kindling.platform.errors import DataLossError, KindlingError, ResourceExhaustedError, UnavailableError
from kindling.platform.logging import get_logger
from kindling.storage.domain.tier import Tier
from kindling.storage.holding import Holding
from kindling.storage.pacing import no_sooner
from kindling.storage.ports import ChunkSource, RemoteStore, SsdCopy
from kindling.storage.tiers import Tiers
from kindling.storage.write_behind import WriteBehind

log = get_logger(__name__)
_SSD_TROUBLE = (ResourceExhaustedError, UnavailableError)


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """What to load: the chunks of ``holding`` from ``present_chunks`` on, ``lanes`` at a time. ``on_arrival`` is called
    after each. The holding's SSD copy is read if it is sealed, and else written on the way.
    """

    holding: Holding
    present_chunks: int
    lanes: int
    on_arrival: Callable[[], None]


class LoadCheckpoint:
    """Runs one :class:`LoadPlan`; what arrives goes to the holding's board, what it took to its meter."""

    def __init__(self, plan: LoadPlan, tiers: Tiers, remote: "LazyRemote", clock: Clock) -> None:
        self._plan = plan
        self._holding = plan.holding
        self._layout = plan.holding.layout
        self._memory = tiers.memory
        self._limits = tiers.limits
        self._remote = remote
        self._clock = clock
        self._behind = WriteBehind(self._write_pooled)

    async def run(self) -> None:
        """Return when every chunk can be read, and the SSD copy, if it is new, has them all too (or was abandoned).

        Raises DataLossError if a chunk is bad at every tier. When cancelled, chunks in flight are finished first.
        """
        # A new copy needs the chunks too that are in DRAM already.
        first_chunk = 0 if self._writing else self._plan.present_chunks
        chunks = iter(range(first_chunk, len(self._layout.geometry.chunks)))
        try:
            # Fewer than the lanes: reads and writes may share threads.
            async with self._behind.running(max(1, self._plan.lanes // 2)), asyncio.TaskGroup() as lanes:
                for _ in range(self._plan.lanes):
                    lanes.create_task(self._lane(chunks))
        except* KindlingError as group:
            raise first_error(group) from None

    @property
    def _writing(self) -> bool:
        return (
            self._holding.copy is not None and not self._holding.copy_is_sealed and not self._holding.copy_is_abandoned
        )

    async def _lane(self, chunks: Iterator[int]) -> None:
        staging = _Staging(self._memory.buffer_bytes, self._layout.geometry.chunk_bytes)
        for chunk in chunks:
            await self._bring(chunk, staging)

    async def _bring(self, chunk: int, staging: "_Staging") -> None:
        pooled = chunk < len(self._layout.buffers)
        into = self._memory.view(self._layout.buffers[chunk]) if pooled else staging.view()
        tier = Tier.DRAM if chunk < self._plan.present_chunks else await self._read(chunk, into, cached=not pooled)
        if pooled and tier is not Tier.DRAM:
            self._arrived(chunk, tier)
        if self._writing and tier is not Tier.SSD:
            if pooled:
                self._behind.add(chunk)
            else:
                await self._write(chunk, into, cached=True)
        if not pooled:
            self._arrived(chunk, tier)

    async def _write_pooled(self, chunk: int) -> None:
        if self._writing:
            await self._write(chunk, self._memory.view(self._layout.buffers[chunk]), cached=False)

    def _arrived(self, chunk: int, tier: Tier) -> None:
        self._holding.board.arrive(chunk, 1, tier)
        self._plan.on_arrival()

    async def _read(self, chunk: int, into: memoryview, *, cached: bool) -> Tier:
        copy = self._holding.copy
        if copy is None or not copy.has_chunk(chunk):
            return await self._read_remote(chunk, into)
        try:
            await self._metered(Tier.SSD, copy, chunk, into, cached=cached)
        except DataLossError as error:
            log.warning("ssd_chunk_rejected", digest=self._holding.digest, chunk=chunk, error=error.message)
            if not self._holding.copy_is_sealed:
                return await self._read_remote(chunk, into)
            return await self._repair(copy, chunk, into, cached=cached)
        return Tier.SSD

    async def _repair(self, copy: SsdCopy, chunk: int, into: memoryview, *, cached: bool) -> Tier:
        tier = await self._read_remote(chunk, into)
        try:
            await copy.write_chunk(chunk, into[: self._length(chunk)], cached=cached)
        except _SSD_TROUBLE as error:
            if cached:  # the chunk is handed out from the copy itself
                raise
            log.warning("ssd_chunk_not_repaired", digest=self._holding.digest, chunk=chunk, error=error.message)
        else:
            log.info("ssd_chunk_repaired", digest=self._holding.digest, chunk=chunk)
        return tier

    async def _read_remote(self, chunk: int, into: memoryview) -> Tier:
        source = await self._remote.get()
        try:
            await self._metered(Tier.REMOTE, source, chunk, into, cached=False)
        except DataLossError as error:
            # What was wrong may have been the way here: a store gets a second chance before a load is lost.
            log.warning("remote_chunk_rejected", digest=self._holding.digest, chunk=chunk, error=error.message)
            await self._metered(Tier.REMOTE, source, chunk, into, cached=False)
        return Tier.REMOTE

    async def _metered(self, tier: Tier, source: ChunkSource, chunk: int, into: memoryview, *, cached: bool) -> None:
        self._holding.meter.begin(tier, self._clock.now())
        moved = 0
        try:
            async with no_sooner(self._limits.get(tier), self._length(chunk), self._clock):
                await source.read_chunk(chunk, into, cached=cached)
            moved = self._length(chunk)
        finally:
            self._holding.meter.end(tier, moved, self._clock.now())

    async def _write(self, chunk: int, data: memoryview, *, cached: bool) -> None:
        if self._holding.copy is None:
            return
        try:
            await self._holding.copy.write_chunk(chunk, data[: self._length(chunk)], cached=cached)
        except _SSD_TROUBLE as error:
            if not self._layout.in_dram:
                raise
            # The pool has it all: a node without a copy serves as well, until it must load again.
            self._holding.copy_is_abandoned = True
            log.warning("ssd_copy_abandoned", digest=self._holding.digest, error=error.message)

    def _length(self, chunk: int) -> int:
        return self._layout.geometry.chunks[chunk].length


class LazyRemote:
    """Opens the remote checkpoint at first use: a node with everything at hand does not need the store at all."""

    def __init__(self, store: RemoteStore, manifest: Manifest) -> None:
        self._store = store
        self._manifest = manifest
        self._lock = asyncio.Lock()
        self._source: ChunkSource | None = None

    async def get(self) -> ChunkSource:
        """Return the source, opened once; errors are those of the store."""
        async with self._lock:
            if self._source is None:
                self._source = await self._store.open(self._manifest)
            return self._source

    def close(self) -> None:
        """Close the source if it was opened."""
        if self._source is not None:
            self._source.close()


class _Staging:
    """A lane's own memory for chunks that have no pool buffer; made at first use."""

    def __init__(self, *sizes_bytes: int) -> None:
        self._size_bytes = max(sizes_bytes)
        self._view: memoryview | None = None

    def view(self) -> memoryview:
        if self._view is None:
            self._view = memoryview(mmap.mmap(-1, self._size_bytes))
        return self._view

"""The node's tiers: their books and the ports behind them, in one place for all use cases."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kindling.platform.errors import KindlingError, ResourceExhaustedError, UnavailableError
from kindling.platform.logging import get_logger
from kindling.storage.catalog import Catalog, KnownCheckpoint
from kindling.storage.domain.chunk_pool import ChunkPool
from kindling.storage.domain.rate_limit import RateLimit
from kindling.storage.domain.ssd_ledger import SsdLedger
from kindling.storage.domain.tier import Tier, TierResidency, TierSnapshot
from kindling.storage.domain.traffic import BandwidthBook
from kindling.storage.ports import PoolMemory, RemoteStore, SsdStore

log = get_logger(__name__)


@dataclass(slots=True)
class Tiers:
    """DRAM (``pool`` keeps the books of ``memory``), SSD (``ledger`` those of ``ssd``) and REMOTE."""

    pool: ChunkPool
    memory: PoolMemory
    ledger: SsdLedger
    ssd: SsdStore
    remote: RemoteStore
    catalog: Catalog
    bandwidth: BandwidthBook = field(default_factory=BandwidthBook)
    limits: Mapping[Tier, RateLimit] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    verified: set[str] = field(default_factory=set)
    remote_used_bytes: int = 0
    _dropped: set[str] = field(default_factory=set)

    async def recover(self) -> tuple[str, ...]:
        """Sweep up after processes that died; return the digests of the sealed copies in the cache directory."""
        await self.remote.recover()
        for copy in await self.ssd.scan():
            if not self.ledger.has(copy.manifest.digest):
                self.catalog.add(copy.manifest)
                self.ledger.add(copy.manifest.digest, copy.manifest.total_bytes, sealed=copy.sealed)
        return self.ledger.digests()

    async def count_remote(self) -> None:
        """Learn how much the remote store holds; nothing changes if it does not say."""
        try:
            self.remote_used_bytes = await self.remote.used_bytes()
        except KindlingError as error:
            log.warning("remote_store_not_counted", error=error.message)

    async def drop_copy(self, digest: str) -> None:
        """Delete the SSD copy, from the books first."""
        self.ledger.remove(digest)
        self.verified.discard(digest)
        self._dropped.add(digest)
        await self.ssd.delete(digest)

    def take_dropped(self) -> set[str]:
        """The checkpoints that have lost chunks to make room, or otherwise, since this was asked last."""
        dropped, self._dropped = self._dropped | self.pool.take_cut(), set()
        return dropped

    def could_copy(self, size_bytes: int) -> bool:
        """Whether an SSD copy of so many bytes could be had, if everything were evicted that may be."""
        evictable = self.ledger.used_bytes - self.ledger.pinned_bytes
        return self.ledger.could_fit(size_bytes) and size_bytes <= self.ssd.available_bytes() + evictable

    async def keep_files(self, known: KnownCheckpoint) -> Path:
        """Return a local directory with the small files, copied to this node at first use if there is room."""
        digest = known.manifest.digest
        if digest not in self.files:
            source = await self.remote.files_directory(known.manifest)
            try:
                self.files[digest] = await self.ssd.keep_files(known.manifest, source)
            except (ResourceExhaustedError, UnavailableError) as error:
                log.warning("small_files_not_cached", digest=digest, error=error.message)
                return source
        return self.files[digest]

    async def forget_files(self, digest: str) -> None:
        """Delete this node's copy of the small files."""
        self.files.pop(digest, None)
        await self.ssd.forget_files(digest)

    def residency(self, digest: str) -> tuple[TierResidency, ...]:
        """How much of ``digest`` is at which tier of this node; tiers without any of it are left out."""
        return tuple(held for held in (self._in_dram(digest), self._on_ssd(digest)) if held.chunks)

    def _in_dram(self, digest: str) -> TierResidency:
        return TierResidency(Tier.DRAM, self.pool.filled_chunks(digest), self.pool.filled_bytes(digest))

    def _on_ssd(self, digest: str) -> TierResidency:
        known = self.catalog.find(digest)
        chunks = len(known.lengths) if known and self.ledger.has(digest) else 0
        return TierResidency(Tier.SSD, chunks, self.ledger.size_bytes(digest), digest in self.verified)

    def snapshots(self) -> tuple[TierSnapshot, ...]:
        """All tiers, fastest first."""
        return self._dram_snapshot(), self._ssd_snapshot(), self._remote_snapshot()

    def _dram_snapshot(self) -> TierSnapshot:
        return TierSnapshot(
            Tier.DRAM,
            self.memory.buffer_count * self.memory.buffer_bytes,
            self.pool.used_bytes,
            self.pool.pinned_bytes,
            self.bandwidth.bytes_per_second(Tier.DRAM),
            self.memory.backing,
            tuple((digest, self._in_dram(digest)) for digest in self.pool.digests()),
        )

    def _ssd_snapshot(self) -> TierSnapshot:
        return TierSnapshot(
            Tier.SSD,
            self.ledger.capacity_bytes,
            self.ledger.used_bytes,
            self.ledger.pinned_bytes,
            self.bandwidth.bytes_per_second(Tier.SSD),
            "",
            tuple((digest, self._on_ssd(digest)) for digest in self.ledger.digests()),
        )

    def _remote_snapshot(self) -> TierSnapshot:
        return TierSnapshot(
            Tier.REMOTE, 0, self.remote_used_bytes, 0, self.bandwidth.bytes_per_second(Tier.REMOTE), "", ()
        )

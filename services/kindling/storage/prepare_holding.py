"""Sets memory aside for a checkpoint that is about to be opened: pool buffers, and room on the SSD."""

from kindling.platform.errors import DataLossError, ResourceExhaustedError, UnavailableError
from kindling.platform.logging import get_logger
from kindling.storage.arrivals import ArrivalBoard
from kindling.storage.catalog import KnownCheckpoint
from kindling.storage.domain.layout import Layout
from kindling.storage.domain.tier import Tier
from kindling.storage.domain.traffic import TrafficMeter
from kindling.storage.holding import Holding
from kindling.storage.parked_leases import ParkedLeases
from kindling.storage.ports import SsdCopy
from kindling.storage.tiers import Tiers

log = get_logger(__name__)


class PrepareHolding:
    """Makes holdings. Whoever gets one owns a pin in the pool and, while it has a copy, one in the SSD ledger."""

    def __init__(self, tiers: Tiers, parked: ParkedLeases) -> None:
        self._tiers = tiers
        self._parked = parked

    async def prepare(self, digest: str) -> Holding:
        """Return a holding whose memory is set aside.

        Raises NotFoundError (CHECKPOINT_NOT_FOUND), DataLossError, or ResourceExhaustedError (POOL_TOO_SMALL) if the
        pool cannot hold all of it and the SSD cannot hold a copy.
        """
        known = await self._tiers.catalog.get(digest)
        self._tiers.pool.pin(digest, known.lengths)
        self._tiers.pool.note_use(digest)
        self._tiers.ledger.note_use(digest)
        try:
            return await self._prepare(known)
        except BaseException:
            self._tiers.pool.unpin(digest)
            raise

    async def _prepare(self, known: KnownCheckpoint) -> Holding:
        files_directory = await self._tiers.keep_files(known)
        copy, sealed = await self._copy_of(known)
        try:
            await self._parked.make_pool_room(known.manifest.digest, self._poolable_chunks(known))
            layout = self._lay_out(known, has_copy=copy is not None)
        except BaseException:
            self._let_go(known.manifest.digest, copy)
            raise
        holding = Holding(
            known,
            layout,
            ArrivalBoard(len(known.lengths)),
            TrafficMeter(),
            files_directory,
            copy,
            copy_is_sealed=sealed,
        )
        self._note_present(holding)
        return holding

    def _note_present(self, holding: Holding) -> None:
        present = self._tiers.pool.filled_chunks(holding.digest)
        if present:
            holding.board.arrive(0, present, Tier.DRAM)
            holding.meter.add(Tier.DRAM, holding.known.geometry.head_bytes(present))

    async def _copy_of(self, known: KnownCheckpoint) -> tuple[SsdCopy | None, bool]:
        """Return the SSD copy that a load needs, pinned, and whether it is sealed; none if all is in DRAM."""
        digest = known.manifest.digest
        if self._tiers.pool.filled_chunks(digest) == len(known.lengths):
            return None, False
        sealed = await self._open_sealed(known)
        if sealed is not None:
            return sealed, True
        return await self._open_partial(known) or await self._create_copy(known), False

    async def _open_sealed(self, known: KnownCheckpoint) -> SsdCopy | None:
        digest = known.manifest.digest
        if not self._tiers.ledger.has(digest):
            return None
        self._tiers.ledger.pin(digest)
        try:
            return await self._tiers.ssd.open(known.manifest)
        except DataLossError as error:
            log.warning("ssd_copy_quarantined", digest=digest, error=error.message)
            self._tiers.ledger.remove(digest)
            await self._tiers.ssd.quarantine(digest)
            return None

    async def _open_partial(self, known: KnownCheckpoint) -> SsdCopy | None:
        """Go on with what a load that was cut short has left."""
        digest = known.manifest.digest
        if not self._tiers.ledger.has_partial(digest):
            return None
        self._tiers.ledger.pin(digest)
        try:
            return await self._tiers.ssd.resume(known.manifest)
        except (DataLossError, ResourceExhaustedError, UnavailableError) as error:
            log.warning("ssd_copy_not_resumed", digest=digest, error=error.message)
            await self._tiers.drop_copy(digest)
            return None

    async def _create_copy(self, known: KnownCheckpoint) -> SsdCopy | None:
        """Set room aside on the SSD, evicting what was used least recently; None if that is not enough."""
        ledger, size_bytes = self._tiers.ledger, known.geometry.total_bytes
        await self._parked.make_disk_room(size_bytes)
        while self._tiers.could_copy(size_bytes):
            if ledger.fits(size_bytes):
                copy = await self._try_create(known)
                if copy is not None:
                    return copy
            victim = ledger.next_victim()
            if victim is None:
                break
            await self._tiers.drop_copy(victim)
        log.warning("ssd_copy_skipped", digest=known.manifest.digest, size_bytes=size_bytes)
        return None

    async def _try_create(self, known: KnownCheckpoint) -> SsdCopy | None:
        # In the books before the disk is asked, so that two loads do not count on the same room.
        digest = known.manifest.digest
        self._tiers.ledger.add(digest, known.geometry.total_bytes, sealed=False)
        self._tiers.ledger.pin(digest)
        try:
            return await self._tiers.ssd.create(known.manifest)
        except BaseException as error:
            self._tiers.ledger.remove(digest)
            if isinstance(error, ResourceExhaustedError | UnavailableError):
                return None
            raise

    def _let_go(self, digest: str, copy: SsdCopy | None) -> None:
        if copy is not None:
            copy.close()
            self._tiers.ledger.unpin(digest)

    def _lay_out(self, known: KnownCheckpoint, *, has_copy: bool) -> Layout:
        """Give the checkpoint as many buffers as can be had; all of it happens at once, so nobody comes between."""
        digest, wanted = known.manifest.digest, self._poolable_chunks(known)
        room = self._tiers.pool.room_for(digest)
        if not has_copy and min(wanted, room) < len(known.lengths):
            raise self._too_small(known, min(wanted, room))
        self._tiers.memory.recycle(self._tiers.pool.grow(digest, wanted))
        return Layout(known.geometry, self._tiers.pool.buffers(digest))

    def _poolable_chunks(self, known: KnownCheckpoint) -> int:
        # A buffer holds one chunk, and a mapping begins on a page.
        memory, chunk_bytes = self._tiers.memory, known.geometry.chunk_bytes
        fits = chunk_bytes <= memory.buffer_bytes and chunk_bytes % memory.page_bytes == 0
        return len(known.lengths) if fits else 0

    def _too_small(self, known: KnownCheckpoint, chunks: int) -> ResourceExhaustedError:
        needed, available = known.geometry.total_bytes, known.geometry.head_bytes(chunks)
        disk = self._tiers.ssd.available_bytes()
        return ResourceExhaustedError(
            f"{known.manifest.digest} needs {needed} bytes: the DRAM pool has room for {available}, which lacks "
            f"{needed - available}, and the cache directory cannot hold a copy ({disk} bytes are free there); raise "
            "KINDLING_STORAGE_POOL_BYTES, make room on the disk, or stop another model",
            reason="POOL_TOO_SMALL",
            metadata={
                "needed_bytes": str(needed),
                "available_bytes": str(available),
                "lacking_bytes": str(needed - available),
                "disk_available_bytes": str(disk),
            },
            retry_after_seconds=1.0,
        )

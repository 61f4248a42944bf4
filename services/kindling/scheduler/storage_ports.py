"""What the scheduler needs of the storage managers."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from kindling.scheduler.domain.promotions import Promotion
from kindling.scheduler.domain.values import Checkpoint, Node, Tier, TierUse
from kindling.scheduler.domain.verification import NodeVerified, VerifyProgress


@dataclass(frozen=True, slots=True)
class ImportProgress:
    """How far packing a source has come."""

    done_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class FilePart:
    """A piece of a small file."""

    path: str
    file_bytes: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class TierContents:
    """A tier, and the checkpoints in it: (digest, chunks, bytes)."""

    use: TierUse
    checkpoints: tuple[tuple[str, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class PrefetchCounts:
    """What became of the chunks that were prefetched: a miss is a checkpoint whose chunks were all dropped unused."""

    prefetched_bytes: int
    hits: int
    hit_bytes: int
    misses: int
    wasted_bytes: int


@dataclass(frozen=True, slots=True)
class StorageStatus:
    """A node's tiers, fastest first, and what became of what was prefetched to DRAM and to the SSD, if it said."""

    tiers: tuple[TierContents, ...]
    prefetch: PrefetchCounts | None = None
    prefetch_to_ssd: PrefetchCounts | None = None


@dataclass(frozen=True, slots=True)
class ImportOrder:
    """A source to be packed; ``request_id`` makes asking twice harmless."""

    request_id: str
    source_uri: str
    allow_pickle: bool = False


@dataclass(frozen=True, slots=True)
class Dropped:
    """What a node dropped, and what it keeps because a lease pins it."""

    dropped_bytes: int
    pinned_bytes: int = 0


@dataclass(frozen=True, slots=True)
class VerifyOrder:
    """A checkpoint to be checked, whether to repair it, and whether to read the remote store too."""

    digest: str
    repair: bool
    check_remote: bool


class Storages(Protocol):
    """The storage managers. Calls raise KindlingError; UNAVAILABLE if the node cannot be reached."""

    def import_checkpoint(self, node: Node, order: ImportOrder) -> AsyncGenerator[ImportProgress | Checkpoint, None]:
        """Pack a source into the remote store; the last item is the checkpoint."""
        ...

    async def evict_checkpoint(self, node: Node, digest: str, keep: Tier) -> Dropped:
        """Drop a checkpoint's chunks above a tier, as far as no lease pins them."""
        ...

    async def prefetch(self, node: Node, promotion: Promotion) -> bool:
        """Bring the head of a checkpoint to DRAM, or a copy to the SSD; returns whether all of it is there."""
        ...

    async def delete_checkpoint(self, node: Node, digest: str) -> None:
        """Delete a checkpoint from the remote store and the node."""
        ...

    def verify_checkpoint(self, node: Node, order: VerifyOrder) -> AsyncGenerator[VerifyProgress | NodeVerified, None]:
        """Read a checkpoint's chunks at every tier of the node; the last item is what was found."""
        ...

    def read_files(self, node: Node, digest: str) -> AsyncGenerator[FilePart, None]:
        """Yield a checkpoint's small files, piece by piece."""
        ...

    async def status(self, node: Node) -> StorageStatus:
        """Return the node's tiers, and what became of what was prefetched there."""
        ...

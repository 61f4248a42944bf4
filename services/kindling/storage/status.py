"""What this node says about itself."""

from dataclasses import dataclass

from kindling.storage.domain.prefetch_tally import PrefetchTally
from kindling.storage.domain.tier import TierSnapshot
from kindling.storage.holding import Lease
from kindling.storage.open_checkpoint import OpenCheckpoint
from kindling.storage.tiers import Tiers


@dataclass(frozen=True, slots=True)
class StorageStatus:
    """The tiers, fastest first, the leases held now, and what became of what was prefetched to DRAM and to the SSD."""

    node_id: str
    tiers: tuple[TierSnapshot, ...]
    leases: tuple[Lease, ...]
    prefetch: PrefetchTally
    copies: PrefetchTally


class GetStatus:
    """Looks; changes nothing."""

    def __init__(self, node_id: str, tiers: Tiers, opened: OpenCheckpoint) -> None:
        self.node_id = node_id
        self._tiers = tiers
        self._opened = opened

    def status(self) -> StorageStatus:
        """Return the node's status as of now."""
        tiers = self._tiers
        return StorageStatus(
            self.node_id, tiers.snapshots(), self._opened.leases(), tiers.pool.tally, tiers.ledger.tally
        )

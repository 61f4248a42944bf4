"""Checkpoints that are open only because workers keep them for their next start: pins that give way."""

from collections.abc import Callable

from kindling.platform.logging import get_logger
from kindling.storage.holding import Holding
from kindling.storage.tiers import Tiers

EVICTED = "EVICTED"
EVICTION_REQUESTED = "EVICTION_REQUESTED"
log = get_logger(__name__)


class ParkedLeases:
    """Knows which holdings have parked leases alone, in the order in which that came about, and takes them back."""

    def __init__(self, tiers: Tiers) -> None:
        self._tiers = tiers
        self._parked: dict[str, Holding] = {}

    def review(self, holding: Holding) -> None:
        """Look again: call whenever a lease on ``holding`` comes, goes, or is parked or firm anew."""
        is_parked = holding.is_parked
        self._tiers.pool.set_parked(holding.digest, parked=is_parked)
        if is_parked:
            self._parked.setdefault(holding.digest, holding)
        elif self._parked.get(holding.digest) is holding:
            del self._parked[holding.digest]

    async def take_back(self, holding: Holding, reason: str) -> None:
        """End the leases of a parked holding; returns when their holders have let go of it, or had their time."""
        self._parked.pop(holding.digest, None)
        holding.doomed = True  # whoever opens the checkpoint now gets a holding of their own
        holding.board.close(reason)
        log.info("parked_checkpoint_taken_back", digest=holding.digest, reason=reason)
        await holding.gone.wait()

    async def take_back_if_parked(self, digest: str) -> None:
        """End the parked leases on ``digest``, since somebody asked for it to be dropped."""
        if (holding := self._parked.get(digest)) is not None:
            await self.take_back(holding, EVICTION_REQUESTED)

    async def make_pool_room(self, digest: str, chunks: int) -> None:
        """Take back, longest parked first, until the pool can give ``digest`` so many chunks or nothing is parked."""
        await self._take_back_until(lambda: self._tiers.pool.room_for(digest) >= chunks)

    async def make_disk_room(self, size_bytes: int) -> None:
        """Take back until an SSD copy of ``size_bytes`` could be had or nothing is parked."""
        await self._take_back_until(lambda: self._tiers.could_copy(size_bytes))

    async def _take_back_until(self, enough: Callable[[], bool]) -> None:
        while self._parked and not enough():
            await self.take_back(next(iter(self._parked.values())), EVICTED)

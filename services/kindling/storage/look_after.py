"""What a storage manager does for itself: measures its links, counts, verifies what it found."""

import asyncio

from kindling.platform.errors import KindlingError
from kindling.platform.logging import get_logger
from kindling.storage.contained import outcome
from kindling.storage.measure_links import MeasureLinks
from kindling.storage.publisher import Publisher
from kindling.storage.tiers import Tiers
from kindling.storage.verify_checkpoint import VerifyCheckpoint, VerifyOrder

log = get_logger(__name__)


class LookAfter:
    """Housekeeping, ``done`` some time after the start; what goes wrong is logged, since nobody asked for it."""

    def __init__(
        self,
        tiers: Tiers,
        publisher: Publisher,
        verifies: VerifyCheckpoint,
        measures: MeasureLinks | None,
        *,
        verify_found: bool,
    ) -> None:
        self._tiers = tiers
        self._publisher = publisher
        self._verifies = verifies
        self._measures = measures
        self._verify_found = verify_found
        self.done = asyncio.Event()

    async def measure(self) -> None:
        """Measure the links, before anybody is served: it borrows buffers, and a first opening may want them all."""
        if self._measures is not None:
            _tell(await outcome(self._measures.run(), "measuring the links"))

    async def run(self, found: tuple[str, ...]) -> None:
        """Do the rest once, beside what is served; ``found`` are the sealed copies that were there at start."""
        _tell(await outcome(self._count_remote(), "counting the remote store"))
        for digest in found if self._verify_found else ():
            _tell(await outcome(self._verify(digest), f"verifying {digest}"))
        self.done.set()

    async def _count_remote(self) -> None:
        await self._tiers.count_remote()
        self._publisher.note()

    async def _verify(self, digest: str) -> None:
        async for _ in self._verifies.verify(VerifyOrder(digest, repair=True)):
            pass  # the verdict is logged and published


def _tell(error: KindlingError | None) -> None:
    if error is not None:
        log.warning("housekeeping_failed", reason=error.reason, error=error.message)

"""Having nodes bring to DRAM what is about to be called."""

import asyncio
import math

from kindling.platform.clock import Clock
from kindling.platform.errors import KindlingError
from kindling.platform.logging import get_logger
from kindling.scheduler.changes import Changes
from kindling.scheduler.domain.prefetch import Prefetcher
from kindling.scheduler.domain.promotions import Promotion
from kindling.scheduler.domain.view import ClusterView
from kindling.scheduler.ports import Storages

log = get_logger(__name__)


class Prefetching:
    """Learns from the calls of this term, and has promotions carried out. What a leader has learned ends with its term:
    the next one learns anew, and lets nothing give way meanwhile, since it has not watched for long.
    """

    def __init__(self, prefetcher: Prefetcher, view: ClusterView, storages: Storages, clock: Clock) -> None:
        self._prefetcher = prefetcher
        self._view = view
        self._storages = storages
        self._clock = clock
        self._changes = Changes(clock)
        self._wakes_at = math.inf

    def note_call(self, model: str) -> None:
        """A model is called; one that is not known is ignored."""
        if (known := self._view.models.get(model)) is not None:
            self._prefetcher.note(known, self._clock.now())
            self._wake_in_time()

    def forget(self, digest: str) -> None:
        """Bring nothing of a checkpoint that somebody has evicted, until new calls have told when it is needed."""
        self._prefetcher.forget(digest)

    async def run(self) -> None:
        """Plan and promote until cancelled; promotions under way end then."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                ticket = self._changes.ticket()
                for promotion in self._prefetcher.plan(self._view, self._clock.now()):
                    tasks.create_task(self._promote(promotion))
                self._wakes_at = self._prefetcher.next_look()
                await self._changes.wait(ticket, self._wakes_at if self._wakes_at < math.inf else None)

    async def _promote(self, promotion: Promotion) -> None:
        is_done = False
        try:
            is_done = await self._is_brought(promotion)
        except KindlingError as error:
            log.info("prefetch_failed", node=promotion.node_id, digest=promotion.digest, reason=error.reason)
        finally:
            self._prefetcher.ended(promotion, self._clock.now(), is_done=is_done)
            self._wake_in_time()

    async def _is_brought(self, promotion: Promotion) -> bool:
        node = self._view.nodes.get(promotion.node_id)
        return node is not None and await self._storages.prefetch(node, promotion)

    def _wake_in_time(self) -> None:
        if self._prefetcher.next_look() < self._wakes_at:
            self._changes.note()

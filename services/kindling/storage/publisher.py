"""Tells the cluster what this node has, often enough and no oftener."""

import asyncio

from kindling.platform.clock import Clock
from kindling.platform.logging import get_logger
from kindling.storage.ports import Registry
from kindling.storage.tiers import Tiers

log = get_logger(__name__)
_MOST_SECONDS_TO_WAIT = 2.0


class Publisher:
    """Collects what changed and publishes it at most every ``interval_seconds``: a load changes much, quickly."""

    def __init__(self, tiers: Tiers, registry: Registry, clock: Clock, interval_seconds: float) -> None:
        self._tiers = tiers
        self._registry = registry
        self._clock = clock
        self._interval_seconds = interval_seconds
        self._dirty: set[str] = set()
        self._changed = asyncio.Event()

    def note(self, *digests: str) -> None:
        """Say that the residency of ``digests`` changed."""
        self._dirty.update(digests)
        self._changed.set()

    def publish(self) -> None:
        """Publish what changed, now."""
        dirty, self._dirty = self._dirty | self._tiers.take_dropped(), set()
        self._changed.clear()
        for digest in dirty:
            self._registry.publish_residency(digest, self._tiers.residency(digest))
        self._registry.publish_tiers()

    async def publish_and_wait(self) -> None:
        """Publish what changed, and return when the cluster can see it or has had its time: it may be away."""
        self.publish()
        try:
            async with asyncio.timeout(_MOST_SECONDS_TO_WAIT):
                await self._registry.written()
        except TimeoutError:
            log.warning("publication_delayed", seconds=_MOST_SECONDS_TO_WAIT)

    async def run(self) -> None:
        """Publish changes until cancelled."""
        while True:
            await self._changed.wait()
            self.publish()
            await self._clock.sleep(self._interval_seconds)

"""Measures the node's links once at start, briefly, so that the first placements have estimates to go by."""

import asyncio
from collections.abc import Iterator

from kindling.platform.clock import Clock
from kindling.platform.errors import KindlingError
from kindling.platform.logging import get_logger
from kindling.storage.domain.tier import Tier, TierTraffic
from kindling.storage.open_checkpoint import OpenCheckpoint
from kindling.storage.ports import LinkProbe, ProbeFile
from kindling.storage.publisher import Publisher
from kindling.storage.tiers import Tiers

log = get_logger(__name__)
MOST_BYTES = 256 << 20
_MOST_SECONDS = 0.5
_COPIES = 4


class MeasureLinks:
    """Reads from the SSD as loads do, and copies within memory. What the first load measures weighs more soon.

    The remote store is not measured: its bytes may cost money, and the first load tells.
    """

    def __init__(
        self, tiers: Tiers, opened: OpenCheckpoint, publisher: Publisher, probe: LinkProbe, clock: Clock, lanes: int
    ) -> None:
        self._tiers = tiers
        self._opened = opened
        self._publisher = publisher
        self._probe = probe
        self._clock = clock
        self._lanes = lanes

    async def run(self) -> None:
        """Measure while nothing is being loaded, with as many reads in flight as a load has."""
        async with self._opened.between_loads():
            buffers = self._tiers.pool.borrow(self._lanes)
            try:
                await self._measure([self._tiers.memory.view(buffer) for buffer in buffers])
            finally:
                self._tiers.pool.give_back(buffers)
        self._publisher.note()

    async def _measure(self, views: list[memoryview]) -> None:
        if not views:
            log.info("links_not_measured", why="the pool has no free buffer")
            return
        await self._probe.prepare(views)
        await self._measure_dram(views)
        try:
            await self._measure_ssd(views)
        except KindlingError as error:  # a full disk, for instance: loads will tell more
            log.warning("ssd_not_measured", error=error.message)

    async def _measure_ssd(self, views: list[memoryview]) -> None:
        async with self._probe.ssd_file(MOST_BYTES) as file:
            steps = iter(range(0, min(file.size_bytes, MOST_BYTES), len(views[0])))
            started = self._clock.now()
            async with asyncio.TaskGroup() as reads:
                lanes = [reads.create_task(self._read(file, steps, view, started)) for view in views]
            self._learn(Tier.SSD, sum(lane.result() for lane in lanes), self._clock.now() - started)

    async def _read(self, file: ProbeFile, steps: Iterator[int], view: memoryview, started: float) -> int:
        done_bytes = 0
        for offset in steps:
            done_bytes += await file.read(offset, view)
            if self._clock.now() - started > _MOST_SECONDS:
                break
        return done_bytes

    async def _measure_dram(self, views: list[memoryview]) -> None:
        if len(views) < 2:
            return
        started = self._clock.now()
        for _ in range(_COPIES):
            await self._probe.copy(views[0], views[-1])
        self._learn(Tier.DRAM, _COPIES * len(views[0]), self._clock.now() - started)

    def _learn(self, tier: Tier, size_bytes: int, seconds: float) -> None:
        if limit := self._tiers.limits.get(tier):
            seconds = max(seconds, limit.seconds(size_bytes))
        self._tiers.bandwidth.learn([TierTraffic(tier, size_bytes, seconds)])
        log.info("link_measured", tier=tier.name, bytes=size_bytes, seconds=round(seconds, 4))

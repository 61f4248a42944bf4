"""A clock whose hands the test turns."""

import asyncio
import heapq
import itertools


class ManualClock:
    """Moves by a microsecond whenever it is read, so that what comes later is later, and otherwise when advanced."""

    def __init__(self) -> None:
        self._now = 1_000.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []

    def now(self) -> float:
        self._now += 1e-6
        return self._now

    def wall(self) -> float:
        return 1_700_000_000.0 + self._now

    async def sleep(self, seconds: float) -> None:
        if seconds > 0:
            woken = asyncio.Event()
            heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), woken))
            await woken.wait()

    def advance(self, seconds: float) -> None:
        self._now += seconds
        while self._sleepers and self._sleepers[0][0] <= self._now:
            heapq.heappop(self._sleepers)[2].set()

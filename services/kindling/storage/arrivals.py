"""What has arrived of a checkpoint, for any number of followers who each get the whole story."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from kindling.platform.errors import KindlingError
from kindling.storage.domain.tier import Tier


@dataclass(frozen=True, slots=True)
class Arrival:
    """``count`` chunks from ``first`` on can be read; they came from ``tier``."""

    first: int
    count: int
    tier: Tier


class ArrivalBoard:
    """Chunks may arrive in any order; followers hear of them in execution order, without gaps."""

    def __init__(self, chunk_count: int) -> None:
        self._tiers: list[Tier | None] = [None] * chunk_count
        self.watermark = 0
        self.error: KindlingError | None = None
        self.closed_reason = ""
        self._changed = asyncio.Event()

    @property
    def complete(self) -> bool:
        """Whether every chunk can be read."""
        return self.watermark == len(self._tiers)

    def arrive(self, first: int, count: int, tier: Tier) -> None:
        """Note that some chunks can be read."""
        self._tiers[first : first + count] = [tier] * count
        while not self.complete and self._tiers[self.watermark] is not None:
            self.watermark += 1
        self._notify()

    def fail(self, error: KindlingError) -> None:
        """Tell every follower that no more will arrive."""
        self.error = error
        self._notify()

    def close(self, reason: str) -> None:
        """Tell every follower that the lease is over."""
        self.closed_reason = reason
        self._notify()

    def arrivals_from(self, chunk: int) -> Iterator[Arrival]:
        """What has arrived from ``chunk`` to the watermark, neighbours from one tier together."""
        first = chunk
        for tier, run in groupby(self._tiers[chunk : self.watermark]):
            count = len(list(run))
            if tier is not None:
                yield Arrival(first, count, tier)
            first += count

    @property
    def change(self) -> asyncio.Event:
        """Set at the next change. Take it before looking, then wait for it: nothing is missed."""
        return self._changed

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

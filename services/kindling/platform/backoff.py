"""Waiting longer after each failure, up to a cap, never in step with others."""

import random

from kindling.platform.clock import Clock

FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0


class Backoff:
    """Pauses that double up to a cap; each is drawn from its upper half."""

    def __init__(self, clock: Clock, longest_seconds: float = LONGEST_PAUSE_SECONDS) -> None:
        self._clock = clock
        self._longest_seconds = longest_seconds
        self._pause_seconds = FIRST_PAUSE_SECONDS

    def reset(self) -> None:
        """Begin anew: what was tried has succeeded."""
        self._pause_seconds = FIRST_PAUSE_SECONDS

    async def pause(self, at_most_seconds: float = float("inf")) -> None:
        """Sleep before the next attempt, no longer than ``at_most_seconds``."""
        pause_seconds = min(self._pause_seconds, self._longest_seconds) * random.uniform(0.5, 1.0)
        self._pause_seconds = min(self._pause_seconds * 2, self._longest_seconds)
        await self._clock.sleep(max(0.0, min(pause_seconds, at_most_seconds)))

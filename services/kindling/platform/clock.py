"""Time as a port: production code asks a clock, tests and the simulator turn its hands."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """What the rest of the code may know about time."""

    def now(self) -> float:
        """Seconds on a monotonic scale; only differences mean anything."""
        ...

    def wall(self) -> float:
        """Seconds since the Unix epoch, for records that outlive the process."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds`` on the monotonic scale."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        """Return the machine's monotonic time."""
        return time.monotonic()

    def wall(self) -> float:
        """Return the machine's wall-clock time."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Sleep on the running event loop."""
        await asyncio.sleep(seconds)

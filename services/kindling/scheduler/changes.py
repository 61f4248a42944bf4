"""Telling those who wait that something about the cluster has changed."""

import asyncio
from collections.abc import Callable

from kindling.platform.clock import Clock


class Changes:
    """A signal that can be waited for, alone or with a deadline on the clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._next = asyncio.Event()

    def note(self) -> None:
        """Something has changed."""
        changed, self._next = self._next, asyncio.Event()
        changed.set()

    def ticket(self) -> asyncio.Event:
        """An event that the next change will set; take it before looking, so that nothing is missed."""
        return self._next

    async def until(self, holds: Callable[[], bool]) -> None:
        """Return once ``holds`` does; it is asked again at every change."""
        while not holds():
            await self._next.wait()

    async def wait(self, ticket: asyncio.Event, deadline: float | None) -> None:
        """Return once the ticket's change has come or the clock has reached ``deadline``."""
        async with asyncio.TaskGroup() as tasks:
            timer = tasks.create_task(self._ring(ticket, deadline))
            await ticket.wait()
            timer.cancel()

    async def _ring(self, ticket: asyncio.Event, deadline: float | None) -> None:
        if deadline is not None:
            # Computed here, in the step that begins the sleep: the clock may have moved since the caller looked.
            await self._clock.sleep(max(0.0, deadline - self._clock.now()))
            if not ticket.is_set():
                self.note()  # not the ticket alone: it would be the next change for ever

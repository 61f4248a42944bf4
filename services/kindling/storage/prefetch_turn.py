"""When a prefetch may run: one at a time, and while nothing is loaded."""

import asyncio
from collections.abc import Coroutine

from kindling.platform.error_groups import first_error
from kindling.platform.errors import KindlingError


class PrefetchTurn:
    """Cuts the prefetch that runs short when a load begins. Loads are counted, for several may wait in line."""

    def __init__(self) -> None:
        self._loads = 0
        self._running: asyncio.Task[None] | None = None

    def begin_load(self) -> None:
        """No prefetch begins from now on until :meth:`end_load`."""
        self._loads += 1

    def end_load(self) -> None:
        """One load less."""
        self._loads -= 1

    def cut(self) -> None:
        """Cut short what runs; it lets go of what it has when it gets round to it."""
        if self._running is not None:
            self._running.cancel()

    async def clear(self) -> None:
        """Cut short what runs; returns when it has let go of its memory, once the chunk in flight is there."""
        self.cut()
        if self._running is not None:
            await asyncio.wait([self._running])

    async def run(self, work: Coroutine[None, None, None]) -> bool:
        """Do ``work``; returns whether it came to its end. It does not begin if this is not the time for it."""
        if self._loads or self._running is not None:
            work.close()
            return False
        try:
            async with asyncio.TaskGroup() as tasks:
                running = self._running = tasks.create_task(work, name="prefetch")
        except* KindlingError as group:
            raise first_error(group) from None
        finally:
            self._running = None
        return not running.cancelled()

"""Writing to the SSD behind the back of a load, so that a slow disk does not hold up what arrives in DRAM."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager


class WriteBehind:
    """Chunks that wait to be written. They are in the pool, where they stay until the load ends: waiting costs no
    memory of its own, and the pool is the bound.
    """

    def __init__(self, write: Callable[[int], Awaitable[None]]) -> None:
        self._write = write
        self._waiting: asyncio.Queue[int | None] = asyncio.Queue()

    def add(self, chunk: int) -> None:
        """Have ``chunk`` written, in its turn."""
        self._waiting.put_nowait(chunk)

    @asynccontextmanager
    async def running(self, writers: int) -> AsyncIterator[None]:
        """Write ``writers`` chunks at a time; at the context's end, return when all that were added are written.

        An error of either side ends both.
        """
        async with asyncio.TaskGroup() as tasks:
            for _ in range(writers):
                tasks.create_task(self._run())
            yield
            for _ in range(writers):
                self._waiting.put_nowait(None)

    async def _run(self) -> None:
        while (chunk := await self._waiting.get()) is not None:
            await self._write(chunk)

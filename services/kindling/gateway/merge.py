"""Several streams as one."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TypeVar

from kindling.gateway.background import Background

T = TypeVar("T")


async def merged(streams: Sequence[AsyncGenerator[T, None]], background: Background) -> AsyncGenerator[T, None]:
    """Yield what the streams yield, as it comes; fail as soon as one of them does. Leaving early ends all of them."""
    if len(streams) == 1:
        async with aclosing(streams[0]) as only:
            async for item in only:
                yield item
        return
    queue: asyncio.Queue[T | asyncio.Task[None]] = asyncio.Queue()
    tasks = [background.start(_pump(stream, queue)) for stream in streams]
    for task in tasks:
        task.add_done_callback(queue.put_nowait)
    try:
        running = len(tasks)
        while running:
            got = await queue.get()
            if isinstance(got, asyncio.Task):
                running -= 1
                got.result()
            else:
                yield got
    finally:
        for task in tasks:
            task.cancel()


async def _pump(stream: AsyncGenerator[T, None], queue: "asyncio.Queue[T | asyncio.Task[None]]") -> None:
    async with aclosing(stream) as items:
        async for item in items:
            queue.put_nowait(item)

"""Running something beside a body without disturbing the errors that the body raises."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

T = TypeVar("T")


@asynccontextmanager
async def alongside(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run ``work`` while the body runs and cancel it after; what the body raises leaves as it is, in no group."""
    failure: BaseException | None = None
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(each) for each in work]
        try:
            yield
        except BaseException as error:  # noqa: BLE001 - raised again below, outside the group that would wrap it
            failure = error
        for task in running:
            task.cancel()
    if failure is not None:
        raise failure


async def unless(event: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """Return what ``work`` returns, or ``None`` with ``work`` cancelled once ``event`` is set."""
    caller = asyncio.current_task()
    assert caller is not None
    cancellations = caller.cancelling()
    try:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(work)
            stop = tasks.create_task(event.wait())
            await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
            task.cancel()
            stop.cancel()
    except BaseExceptionGroup as group:
        if caller.cancelling() > cancellations:
            raise asyncio.CancelledError from None  # a group that fails while it is cancelled keeps that to itself
        raise group.exceptions[0] from None  # only `work` can have failed
    return None if task.cancelled() else task.result()

"""Waiting for something to be different, for an event no longer than a while, for work until something happens."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from kindling.platform.clock import Clock
from kindling.platform.error_groups import single_error

T = TypeVar("T")


class Changes:
    """Tells any number of watchers that something changed; a watcher that is busy misses nothing but repetitions."""

    def __init__(self) -> None:
        self._upcoming = asyncio.Event()

    @property
    def upcoming(self) -> asyncio.Event:
        """Set at the next change; take it before looking, wait for it after."""
        return self._upcoming

    def note(self) -> None:
        """Something changed."""
        self._upcoming.set()
        self._upcoming = asyncio.Event()


async def wait_at_most(event: asyncio.Event, clock: Clock, seconds: float | None) -> bool:
    """Wait for ``event``, no longer than ``seconds`` (None: as long as it takes); return whether it is set."""
    if seconds is None:
        await event.wait()
        return True
    async with asyncio.TaskGroup() as tasks:
        waiters = [tasks.create_task(event.wait()), tasks.create_task(clock.sleep(seconds))]
        await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
        for waiter in waiters:
            waiter.cancel()
    return event.is_set()


async def race(work: Coroutine[Any, Any, T], stop: Coroutine[Any, Any, object]) -> "asyncio.Task[T]":
    """Run ``work`` until it is done or ``stop`` is, which cancels it; return its task, which is over.

    Raises what ``work`` raises.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            working, stopping = tasks.create_task(work), tasks.create_task(stop)
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            working.cancel()
            stopping.cancel()
    except BaseExceptionGroup as group:
        raise single_error(group) from None
    return working

"""Waiting for a change or a deadline."""

import asyncio

from kindling.scheduler.changes import Changes
from support.scheduler_clock import ManualClock


async def test_a_deadline_is_a_change_once() -> None:
    clock = ManualClock()
    changes = Changes(clock)
    ticket = changes.ticket()
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(changes.wait(ticket, clock.now() + 1.0))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        clock.advance(2.0)
        await waiting
    assert not changes.ticket().is_set(), "who waits for the next change does wait"


async def test_those_who_wait_for_something_look_again_at_a_deadline_of_others() -> None:
    clock = ManualClock()
    changes = Changes(clock)
    looked = 0

    def second_time() -> bool:
        nonlocal looked
        looked += 1
        return looked == 2

    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        tasks.create_task(changes.until(second_time))
        tasks.create_task(changes.wait(changes.ticket(), clock.now() + 1.0))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        clock.advance(2.0)
    assert looked == 2

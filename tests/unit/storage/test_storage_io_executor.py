"""Cancelling a caller never leaves a thread writing to memory that has a new owner."""

import asyncio
import threading

import pytest

from kindling.storage.adapters.io_executor import IoExecutor


async def cancelled_in_the_middle(start: threading.Event, call: "asyncio.Task[str]", gate: threading.Event) -> None:
    """Cancel ``call`` while its thread runs, and see that it ends only after the thread was let go on."""
    await asyncio.to_thread(start.wait)
    call.cancel()
    done, _ = await asyncio.wait({call}, timeout=0)
    assert not done
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await call


@pytest.mark.parametrize("failing", [False, True])
async def test_a_cancelled_caller_waits_for_its_thread(failing: bool) -> None:
    start, gate = threading.Event(), threading.Event()

    def work() -> str:
        start.set()
        gate.wait()
        if failing:
            raise OSError("nobody is there to hear this")
        return "done"

    with IoExecutor(1, "test") as io:
        await cancelled_in_the_middle(start, asyncio.create_task(io.run(work)), gate)


async def test_what_a_cancelled_caller_cannot_receive_is_released() -> None:
    start, gate = threading.Event(), threading.Event()
    released: list[str] = []

    def work() -> str:
        start.set()
        gate.wait()
        return "file"

    with IoExecutor(1, "test") as io:
        await cancelled_in_the_middle(start, asyncio.create_task(io.acquire(work, released.append)), gate)
    assert released == ["file"]


async def test_results_and_errors_come_back() -> None:
    with IoExecutor(1, "test") as io:
        assert await io.run(sorted, [2, 1], reverse=False) == [1, 2]
        with pytest.raises(ZeroDivisionError):
            await io.run(divmod, 1, 0)

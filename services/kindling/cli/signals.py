"""How the supervisor of a local cluster ends: at the first signal, once, in order."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def cancelled_by_signals() -> Iterator[None]:
    """Cancel the current task at the first SIGINT, SIGTERM or SIGHUP; more of them change nothing."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    signalled = asyncio.Event()

    def cancel_once() -> None:
        if not signalled.is_set():
            signalled.set()
            task.cancel()

    for number in _SIGNALS:
        loop.add_signal_handler(number, cancel_once)
    try:
        yield
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)

"""Threads for blocking work whose buffers outlive a cancelled caller."""

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class IoExecutor:
    """Runs blocking functions on its own threads; a context manager that waits for them at the end."""

    def __init__(self, threads: int, name: str) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what ``function`` returns.

        A cancelled caller waits until the function is done: its thread still writes to the caller's buffers, which must
        not be given to anybody else before.
        """
        return await self._run(functools.partial(function, *args, **kwargs), _keep)

    async def run_interruptibly(self, function: Callable[[], T], interrupt: Callable[[], None]) -> T:
        """Like :meth:`run`, but a cancelled caller calls ``interrupt``, which makes ``function`` end soon."""
        return await self._run(function, _keep, interrupt)

    async def acquire(self, function: Callable[[], T], release: Callable[[T], None]) -> T:
        """Like :meth:`run`, but what a cancelled caller can no longer receive is released."""
        return await self._run(function, release)

    async def _run(
        self, function: Callable[[], T], release: Callable[[T], None], interrupt: Callable[[], None] | None = None
    ) -> T:
        future = asyncio.get_running_loop().run_in_executor(self._executor, function)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if interrupt is not None:
                interrupt()
            await asyncio.wait([future])
            if not future.cancelled() and future.exception() is None:
                release(future.result())
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.shutdown()


def _keep(_result: object) -> None:
    """Results that own nothing are simply dropped."""

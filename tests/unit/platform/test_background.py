"""Work beside other work: what ends it, and what its caller is told."""

import asyncio

import pytest

from kindling.platform.background import unless
from kindling.platform.errors import UnavailableError


async def test_a_caller_that_is_cancelled_ends_even_if_the_work_fails_at_that_moment() -> None:
    begun = asyncio.Event()

    async def fail_when_cancelled() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise UnavailableError("away", reason="AWAY")

    calling = asyncio.ensure_future(unless(asyncio.Event(), fail_when_cancelled()))
    await begun.wait()
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling

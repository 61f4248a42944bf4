"""Several streams as one."""

import asyncio

import pytest

from kindling.gateway.background import Background
from kindling.gateway.merge import merged
from kindling.platform.errors import UnavailableError


async def numbers(begin: int, end: int, closed: list[int]):
    try:
        for number in range(begin, end):
            await asyncio.sleep(0)
            yield number
    finally:
        closed.append(begin)


async def failing():
    await asyncio.sleep(0)
    yield -1
    raise UnavailableError("lost", reason="LOST")


@pytest.mark.parametrize("count", [1, 3])
async def test_everything_comes_and_each_stream_in_order(count: int):
    closed: list[int] = []
    async with Background(1) as background:
        streams = [numbers(10 * at, 10 * at + 5, closed) for at in range(count)]
        got = [number async for number in merged(streams, background)]
    assert sorted(got) == [number for at in range(count) for number in range(10 * at, 10 * at + 5)]
    assert all([n for n in got if n // 10 == at] == list(range(10 * at, 10 * at + 5)) for at in range(count))
    assert sorted(closed) == [10 * at for at in range(count)]


async def test_the_first_failure_ends_all():
    closed: list[int] = []
    async with Background(1) as background:
        with pytest.raises(UnavailableError):
            [number async for number in merged([numbers(0, 10**9, closed), failing()], background)]
    assert closed == [0]


async def test_leaving_early_ends_all():
    closed: list[int] = []
    async with Background(1) as background:
        stream = merged([numbers(0, 10**9, closed), numbers(1, 10**9, closed)], background)
        await anext(stream)
        await anext(stream)
        await stream.aclose()
    assert sorted(closed) == [0, 1]


async def test_the_background_cancels_what_does_not_end_in_time():
    cancelled = asyncio.Event()

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with Background(0.01) as background:
        background.start(forever())
    assert cancelled.is_set()

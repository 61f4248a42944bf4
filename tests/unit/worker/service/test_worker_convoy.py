"""Generations that move together wait for each other between rounds, and for nobody who has left."""

import asyncio

from kindling.worker.convoy import Convoy
from kindling.worker.domain.generation import GenerationRequest
from kindling.worker.domain.sampling import SamplingParams
from kindling.worker.stream import GenerationStream


def stream(emitted: int) -> GenerationStream:
    request = GenerationRequest("g", (1, 2, 3), SamplingParams(max_tokens=100), tuple(range(emitted)))
    return GenerationStream(request, has_reader=True)


async def test_all_go_on_as_soon_as_the_last_has_come() -> None:
    convoy, first, last = Convoy(2, enough=4), stream(20), stream(20)
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(convoy.wants_round(first, 20))
        await asyncio.sleep(0)
        assert not waiting.done()
        first.token_ids += [7] * 5  # emitted while it waited
        assert await convoy.wants_round(last, 20)
    assert waiting.result()


async def test_no_round_is_made_for_a_gap_that_is_small_enough() -> None:
    assert not await Convoy(1, enough=4).wants_round(stream(20), 16)


async def test_the_largest_gap_counts_and_must_shrink() -> None:
    convoy, large, small = Convoy(2, enough=4), stream(50), stream(50)

    async def both(large_sent: int, small_sent: int) -> list[bool]:
        return list(
            await asyncio.gather(*(convoy.wants_round(*one) for one in ((large, large_sent), (small, small_sent))))
        )

    assert await both(20, 49) == [True, True]
    assert await both(40, 48) == [True, True]
    assert await both(40, 50) == [False, False]


async def test_one_that_leaves_holds_nobody_up() -> None:
    convoy = Convoy(2, enough=4)
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(convoy.wants_round(stream(20), 0))
        await asyncio.sleep(0)
        convoy.leave()
    assert waiting.result()


async def test_one_that_is_cancelled_while_it_waits_is_not_met() -> None:
    convoy = Convoy(3, enough=4)
    gone, near, last = stream(90), stream(20), stream(20)
    async with asyncio.TaskGroup() as tasks:
        leaving = tasks.create_task(convoy.wants_round(gone, 0))
        waiting = tasks.create_task(convoy.wants_round(near, 19))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait({leaving})
        convoy.leave()
        assert not waiting.done()
        assert not await convoy.wants_round(last, 20)
    assert not waiting.result()

"""A generation on a silent worker is tried elsewhere as well, and its reader gets every token once."""

import asyncio

import pytest

from kindling.gateway.domain.events import Granted, Queued, Starting
from kindling.gateway.domain.resume_budget import MOST_SAVED, ResumeLimits
from kindling.platform.errors import DeadlineExceededError, ResourceExhaustedError, UnavailableError
from support.gateway_scripts import (
    EVERY_POSITION,
    FOREVER,
    WHOLE,
    Die,
    Emit,
    Live,
    MoveTo,
    Pause,
    Stage,
    moves_of,
    settle,
    stage,
    tokens_of,
)


@pytest.mark.parametrize("position", EVERY_POSITION)
async def test_a_silent_worker_is_overtaken(position: int):
    async with stage({"a": [[Emit(position), Pause(FOREVER)]]}) as on:
        steps = await on.play()
        assert tokens_of(steps) == WHOLE
        assert moves_of(steps) == [("HEDGED", "a", "b", position)]
        assert on.route == [("a", 0), ("b", position)]
        assert on.left == ["a"]
        assert on.scheduler.asked == [frozenset(), frozenset("a")]
    assert on.scheduler.released == ["b"]


@pytest.mark.parametrize("position", EVERY_POSITION)
async def test_a_silent_worker_that_wakes_up_sooner_goes_on_alone(position: int):
    async with stage({"a": [[Emit(position), Pause(4)]], "b": [[Pause(2)]]}) as on:
        steps = await on.play()
        assert tokens_of(steps) == WHOLE
        assert moves_of(steps) == []
        assert on.route == [("a", 0), ("b", position)]
        assert on.left == ["b"]


async def test_whoever_answers_in_the_same_moment_no_token_comes_twice():
    async with stage({"a": [[Emit(3), Pause(4), Emit(1), Pause(1)]], "b": [[Pause(1), Emit(1)]]}) as on:
        assert tokens_of(await on.play()) == WHOLE


async def test_signs_of_life_prevent_the_hedge():
    async with stage({"a": [[Emit(1), *[Pause(2.9), Live()] * 9]]}) as on:
        assert tokens_of(await on.play()) == WHOLE
        assert len(on.scheduler.asked) == 1


async def test_waiting_for_a_place_is_no_silence():
    async with stage({}) as on:
        acquire = on.scheduler.acquire

        async def slow(generation, avoid):
            await on.clock.sleep(60)
            async for offer in acquire(generation, avoid):
                yield offer

        on.scheduler.acquire = slow
        assert tokens_of(await on.play()) == WHOLE
        assert len(on.scheduler.asked) == 1


async def test_a_hedge_that_dies_leaves_the_silent_worker_its_time_and_is_tried_again():
    async with stage({"a": [[Emit(2), Pause(FOREVER)]], "b": [[Die()]]}) as on:
        steps = await on.play()
        assert tokens_of(steps) == WHOLE
        assert moves_of(steps) == [("HEDGED", "a", "c", 2)]
        assert on.scheduler.asked == [frozenset(), frozenset("a"), frozenset("ab")]


async def test_a_silent_worker_that_dies_leaves_the_hedge_to_go_on():
    async with stage({"a": [[Emit(2), Pause(4), Die()]], "b": [[Pause(2)]]}) as on:
        steps = await on.play()
        assert tokens_of(steps) == WHOLE
        assert moves_of(steps) == [("HEDGED", "a", "b", 2)]
        assert len(on.scheduler.asked) == 2


async def test_when_both_die_the_generation_is_resumed():
    async with stage({"a": [[Emit(2), Pause(4), Die()]], "b": [[Pause(2), Die()]]}) as on:
        steps = await on.play()
        assert tokens_of(steps) == WHOLE
        assert moves_of(steps) == [("RESUMED", "a", "c", 2)]
        assert on.scheduler.asked[-1] == frozenset("ab")


async def test_a_hedge_that_goes_silent_after_it_won_is_hedged_too():
    async with stage({"a": [[Emit(2), Pause(FOREVER)]], "b": [[Emit(2), Pause(FOREVER)]]}) as on:
        steps = await on.play()
        assert tokens_of(steps) == WHOLE
        assert moves_of(steps) == [("HEDGED", "a", "b", 2), ("HEDGED", "b", "c", 4)]


async def test_when_both_are_silent_a_third_takes_the_place_of_the_first():
    async with stage({"a": [[Emit(2), Pause(FOREVER)]], "b": [[Pause(4)]], "c": [[Pause(2)]]}) as on:
        steps = await on.play()
        assert tokens_of(steps) == WHOLE
        assert moves_of(steps) == [("HEDGED", "a", "b", 2)]
        assert on.route == [("a", 0), ("b", 2), ("c", 2)]
        assert on.left == ["a", "c"]


async def test_two_silent_workers_are_both_waited_for_if_there_is_no_third():
    async with stage({"a": [[Emit(2), Pause(30)]], "b": [[Pause(FOREVER)]]}, instances="ab") as on:
        steps = await on.play()
        assert tokens_of(steps) == WHOLE
        assert on.route == [("a", 0), ("b", 2)]


@pytest.mark.parametrize("instances", ["a", "ab", "abc"])
async def test_workers_that_are_all_silent_are_not_waited_for_for_ever(instances: str):
    scripts = {name: [[Pause(FOREVER)]] * 100 for name in instances}
    scripts["a"] = [[Emit(2), Pause(FOREVER)], *scripts["a"]]
    async with stage(scripts, instances=instances) as on:
        began = on.clock.now()
        with pytest.raises(DeadlineExceededError) as caught:
            await on.play()
        assert caught.value.reason == "WORKERS_SILENT"
        assert 60 <= on.clock.now() - began <= 75
        assert len(on.generation.emitted) == 2


async def test_a_place_that_is_found_late_still_has_its_time():
    async with stage({"a": [[Emit(2), Pause(FOREVER)]], "b": [[Pause(10)]]}, instances="ab") as on:
        acquire = on.scheduler.acquire

        async def slow(generation, avoid):
            if avoid:
                await on.clock.sleep(200)
            async for offer in acquire(generation, avoid):
                yield offer

        on.scheduler.acquire = slow
        assert tokens_of(await on.play()) == WHOLE


async def test_without_another_place_the_silent_worker_is_waited_for():
    async with stage({"a": [[Emit(2), Pause(20)]]}, instances="a") as on:
        assert tokens_of(await on.play()) == WHOLE
        assert on.route == [("a", 0)]


async def test_a_hedge_that_queues_gives_way_when_the_worker_wakes_up():
    async with stage({"a": [[Emit(2), Pause(20)]]}, instances="a") as on:
        on.scheduler.yields = False
        steps = await on.play()
        assert tokens_of(steps) == WHOLE
        assert not [step for step in steps if isinstance(step, Queued | Starting)]
        assert len(on.scheduler.asked) == 2


async def test_a_hedge_that_is_refused_changes_nothing():
    async with stage({"a": [[Emit(2), Pause(4)]]}) as on:
        on.scheduler.refusals = [None, ResourceExhaustedError("full", reason="QUEUE_FULL")]
        assert tokens_of(await on.play()) == WHOLE
        assert on.route == [("a", 0)]


async def test_hedges_are_limited_together_with_fruitless_resumes():
    limits = ResumeLimits(share=0, per_second=0)
    silences = round(MOST_SAVED) + 1
    async with stage({"a": [[*[Emit(1), Pause(3.5)] * silences]]}, total=silences, limits=limits) as on:
        on.scheduler.refusals = [None, *[UnavailableError("none", reason="NO_WORKERS")] * silences]
        assert len(tokens_of(await on.play())) == silences
        assert len(on.scheduler.asked) == 1 + MOST_SAVED


async def test_a_silent_worker_that_was_migrating_is_followed():
    async with stage({"a": [[Emit(2), Pause(4), MoveTo("z")]], "b": [[Pause(5)]]}) as on:
        steps = await on.play()
        assert tokens_of(steps) == WHOLE
        assert moves_of(steps) == [("MIGRATED", "a", "z", 2)]
        assert on.left == ["b"]


async def test_a_generation_migrated_to_where_the_hedge_runs_has_one_reader():
    async with stage({"a": [[Emit(2), Pause(4), MoveTo("b")]], "b": [[Pause(2)]]}) as on:
        steps = await on.play()
        assert tokens_of(steps) == WHOLE
        assert moves_of(steps) == [("HEDGED", "a", "b", 2)]
        assert on.route == [("a", 0), ("b", 2)]


async def test_a_gateway_that_hung_itself_reads_what_came_meanwhile_before_it_hedges():
    async with stage({"a": [[Emit(2), Pause(4)]]}) as on:
        reading = asyncio.ensure_future(on.read())
        await settle()
        on.clock.advance(60)
        await settle()
        assert reading.done()
        assert tokens_of(await reading) == WHOLE
        assert len(on.scheduler.asked) == 1


async def test_without_a_limit_on_silence_there_is_no_hedge():
    limits = ResumeLimits(silence_seconds=0)
    async with stage({"a": [[Emit(2), Pause(1000)]]}, limits=limits) as on:
        assert tokens_of(await on.play()) == WHOLE
        assert len(on.scheduler.asked) == 1


# Leaving


async def hedged(on: Stage) -> None:
    """Read until two attempts are under way, and leave."""
    steps = on.generations.run(on.generation)
    assert isinstance(await anext(steps), Granted)
    reading = asyncio.ensure_future(anext(steps))
    while len(on.scheduler.asked) < 2:
        await settle()
        on.clock.jump()
    await settle()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await steps.aclose()


@pytest.mark.parametrize("yields", [True, False])
async def test_leaving_while_hedging_cancels_both_and_gives_the_place_back(yields: bool):
    """Once while the second attempt runs, and once while it queues."""
    scripts = {name: [[Pause(FOREVER)]] for name in "ab"}
    async with stage(scripts, instances="ab" if yields else "a") as on:
        on.scheduler.yields = yields
        await hedged(on)
        await settle()
        assert on.left == (["a", "b"] if yields else ["a"])
    assert len(on.scheduler.released) == 1

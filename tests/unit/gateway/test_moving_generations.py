"""A generation that is migrated, loses its workers or runs on a silent one: its reader gets every token once."""

import asyncio

import pytest
from opentelemetry.sdk.trace import TracerProvider

from kindling.gateway import telemetry
from kindling.gateway.domain.events import Granted, Queued, Starting, TokenBatch
from kindling.gateway.domain.resume_budget import MOST_SAVED, ResumeLimits
from kindling.platform.errors import DeadlineExceededError, InternalError, ResourceExhaustedError, UnavailableError
from support.gateway_scripts import (
    FOREVER,
    Die,
    Emit,
    Live,
    MoveTo,
    Pause,
    Stage,
    moves_of,
    settle,
    stage,
    token_at,
    tokens_of,
)

TOTAL = 12
WHOLE = [token_at(position) for position in range(TOTAL)]
EVERY_POSITION = range(TOTAL + 1)


# Migration


@pytest.mark.parametrize("position", EVERY_POSITION)
async def test_a_migrated_generation_is_followed_without_asking_the_scheduler(position: int):
    async with stage({"a": [[Emit(position), MoveTo("z")]]}) as on:
        steps = await on.play()
        assert tokens_of(steps) == WHOLE
        assert moves_of(steps) == [("MIGRATED", "a", "z", position)]
        assert on.route == [("a", 0), ("z", position)]
        assert on.scheduler.asked == [frozenset()]
    assert on.scheduler.released == ["z"]


async def test_a_generation_is_followed_back_and_forth_twenty_times():
    scripts = {"a": [[Emit(1), MoveTo("b")]] * 10, "b": [[Emit(1), MoveTo("a")]] * 10}
    async with stage(scripts, total=30) as on:
        steps = await on.play()
        assert tokens_of(steps) == [token_at(position) for position in range(30)]
        assert [position for *_, position in moves_of(steps)] == list(range(1, 21))
        assert len(on.scheduler.asked) == 1


async def test_a_generation_that_its_target_refuses_is_resumed_elsewhere():
    async with stage({"a": [[Emit(5), MoveTo("b")]], "b": [[Die("INSTANCE_UNKNOWN")]]}, instances="abc") as on:
        steps = await on.play()
        assert tokens_of(steps) == WHOLE
        assert moves_of(steps) == [("MIGRATED", "a", "b", 5), ("RESUMED", "b", "a", 5)]
        assert on.scheduler.asked == [frozenset(), frozenset("b")]


@pytest.mark.parametrize("position", EVERY_POSITION)
async def test_a_target_may_die_right_after_the_migration(position: int):
    async with stage({"a": [[Emit(3), MoveTo("b")]], "b": [[Emit(position), Die()]]}) as on:
        assert tokens_of(await on.play()) == WHOLE
        assert on.route[:2] == [("a", 0), ("b", 3)]
        assert on.scheduler.asked[-1] == frozenset("b")


# Failover


@pytest.mark.parametrize("position", EVERY_POSITION)
async def test_a_lost_worker_is_replaced_at_once_and_elsewhere(position: int):
    async with stage({"a": [[Emit(position), Die()]]}) as on:
        steps = await on.play()
        assert tokens_of(steps) == WHOLE
        assert moves_of(steps) == [("RESUMED", "a", "b", position)]
        assert on.scheduler.asked == [frozenset(), frozenset("a")]
        assert on.clock.slept == [pytest.approx(3.0, abs=0.01)] * 2  # two watches for silence, and no pause


@pytest.mark.parametrize(
    "reason", ["ENGINE_FAILED", "GENERATION_EXISTS", "INSTANCE_UNKNOWN", "INSTANCE_STOPPED", "RPC_CANCELLED"]
)
async def test_an_instance_that_has_ended_is_replaced(reason: str):
    async with stage({"a": [[Emit(1), Die(reason)]]}) as on:
        assert tokens_of(await on.play()) == WHOLE


async def test_a_generation_that_gets_nowhere_fails_after_its_attempts_with_pauses_between():
    scripts = {name: [[Emit(4 if name == "a" else 0), Die()]] for name in "abcd"}
    async with stage(scripts, instances="abcd", limits=ResumeLimits(silence_seconds=0)) as on:
        with pytest.raises(UnavailableError) as caught:
            await on.play()
        assert caught.value.reason == "RESUMES_EXHAUSTED"
        assert caught.value.metadata == {"position": "4", "attempts": "3", "last_reason": "RPC_UNAVAILABLE"}
        assert on.route == [("a", 0), ("b", 4), ("c", 4), ("d", 4)]
        assert on.scheduler.asked == [frozenset("abcd"[:count]) for count in range(4)]
        first, second = on.clock.slept
        assert 0 < first <= 0.05 < second <= 0.1


async def test_a_generation_that_gets_on_is_resumed_as_often_as_it_takes():
    scripts = {name: [[Emit(10), Die()]] * 5 for name in "ab"}
    async with stage(scripts, instances="ab", total=100, limits=ResumeLimits(1, silence_seconds=0)) as on:
        assert len(tokens_of(await on.play())) == 100
        assert len(on.route) == 11
        assert on.clock.slept == []


async def test_what_troubled_a_generation_is_forgotten_once_it_gets_on():
    scripts = {"a": [[Emit(1), Die()]], "b": [[Emit(1), Die()]], "c": [[Emit(8), Die()]]}
    async with stage(scripts) as on:
        assert tokens_of(await on.play()) == WHOLE
        assert on.scheduler.asked == [frozenset(), frozenset("a"), frozenset("ab"), frozenset("c")]


async def test_without_attempts_a_lost_worker_is_the_error():
    async with stage({"a": [[Emit(1), Die()]]}, limits=ResumeLimits(attempts=0)) as on:
        with pytest.raises(UnavailableError, match="gone"):
            await on.play()
        assert on.route == [("a", 0)]


async def test_too_many_generations_that_get_nowhere_are_not_all_resumed():
    async with stage({"a": [[Die()]] * 1000}, limits=ResumeLimits(share=0, per_second=0)) as on:
        for _ in range(round(MOST_SAVED)):
            on.generation.emitted.clear()
            assert tokens_of(await on.play()) == WHOLE
            await settle()
        on.generation.emitted.clear()
        with pytest.raises(UnavailableError) as caught:
            await on.play()
        assert caught.value.reason == "RESUMES_LIMITED"


async def test_a_resumed_generation_outlives_a_refusal_of_the_scheduler():
    async with stage({"a": [[Emit(4), Die()]]}) as on:
        on.scheduler.refusals = [None, UnavailableError("nobody there", reason="NO_WORKERS")]
        assert tokens_of(await on.play()) == WHOLE
        assert len(on.scheduler.asked) == 3


FULL = ResourceExhaustedError("full", reason="QUEUE_FULL")


async def test_a_resumed_generation_waits_while_queues_are_full():
    """Far more often than it has attempts: to be refused costs none."""
    async with stage({"a": [[Emit(4), Die()]]}) as on:
        on.scheduler.refusals = [None, *[FULL] * 20]
        steps = await on.play()
        assert tokens_of(steps) == WHOLE
        assert moves_of(steps) == [("RESUMED", "a", "b", 4)]
        assert on.scheduler.asked == [frozenset(), *[frozenset("a")] * 21]


async def test_a_resumed_generation_does_not_wait_for_room_for_ever():
    async with stage({"a": [[Emit(4), Die()]]}, limits=ResumeLimits(room_seconds=10)) as on:
        on.scheduler.refusals = [None, *[FULL] * 1000]
        began = on.clock.now()
        with pytest.raises(ResourceExhaustedError) as caught:
            await on.play()
        assert caught.value is FULL
        assert 10 <= on.clock.now() - began <= 12


async def test_a_full_queue_before_the_first_place_is_the_answer():
    async with stage({}) as on:
        on.scheduler.refusals = [FULL]
        with pytest.raises(ResourceExhaustedError):
            await on.play()
        assert len(on.scheduler.asked) == 1


async def test_a_refusal_before_the_first_place_is_the_answer():
    async with stage({}) as on:
        on.scheduler.refusals = [UnavailableError("nobody there", reason="NO_WORKERS")]
        with pytest.raises(UnavailableError, match="nobody there"):
            await on.play()
        assert len(on.scheduler.asked) == 1


async def test_a_worker_that_skips_a_position_is_a_bug_and_not_covered_up():
    async with stage({}) as on:

        async def skipping(place, generation):
            yield TokenBatch(1, (token_at(1),))

        on.workers.generate = skipping
        with pytest.raises(InternalError) as caught:
            await on.play()
        assert caught.value.reason == "TOKENS_LOST"


# The hedge


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


async def test_leaving_after_a_migration_gives_the_new_place_back():
    async with stage({"a": [[MoveTo("b")]], "b": [[Emit(1), Pause(FOREVER)]]}) as on:
        steps = on.generations.run(on.generation)
        while not isinstance(await anext(steps), TokenBatch):
            pass
        await steps.aclose()
        await settle()
        assert on.left == ["b"]
    assert on.scheduler.released == ["b"]


# What is told of it


async def test_moves_are_counted_and_put_on_the_span(monkeypatch: pytest.MonkeyPatch):
    counted: list[tuple[int, dict[str, str]]] = []

    class Counter:
        def add(self, amount: int, attributes: dict[str, str]) -> None:
            counted.append((amount, attributes))

    monkeypatch.setattr(telemetry, "_moves", Counter())
    scripts = {"a": [[Emit(1), MoveTo("b")], [Pause(FOREVER)]], "b": [[Emit(1), Die()]]}
    with TracerProvider().get_tracer("test").start_as_current_span("request") as span:
        async with stage(scripts) as on:
            assert tokens_of(await on.play()) == WHOLE
    assert counted == [(1, {"kind": kind}) for kind in ("migrated", "resumed", "hedged")]
    assert [event.name for event in span.events] == ["migrated", "resumed", "hedged"]
    assert span.events[0].attributes["kindling.from.worker"] == "worker-of-a:1"
    assert span.events[0].attributes["kindling.to.worker"] == "worker-of-b:1"
    assert span.events[0].attributes["kindling.generation.position"] == 1

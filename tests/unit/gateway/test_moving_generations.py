"""A generation that is migrated or loses its workers: its reader gets every token once."""

import pytest
from opentelemetry.sdk.trace import TracerProvider

from kindling.gateway import telemetry
from kindling.gateway.domain.events import TokenBatch
from kindling.gateway.domain.resume_budget import MOST_SAVED, ResumeLimits
from kindling.platform.errors import InternalError, ResourceExhaustedError, UnavailableError
from support.gateway_scripts import (
    EVERY_POSITION,
    FOREVER,
    WHOLE,
    Die,
    Emit,
    MoveTo,
    Pause,
    moves_of,
    settle,
    stage,
    token_at,
    tokens_of,
)

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


# Leaving


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

"""The source's side of a migration against a target that does what the test says, at every point where it can fail."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from kindling.platform.errors import UnavailableError
from kindling.worker.adapters.fake_engine import FakeEngine
from kindling.worker.changes import Changes
from kindling.worker.domain.generation import Finished, GenerationRequest, Migrated, Token
from kindling.worker.domain.migration import MigrationLimits, Moved, Outcome, Stayed
from kindling.worker.engine_loop import EngineLoop
from kindling.worker.migrate import Migration
from support.engines import request, run, tokens
from support.worker_service import ManualClock, SteppedEngine

Events = list[Token | Finished | Migrated]
STAGES = ("begin", "round", "handover")
LIMITS = MigrationLimits()
PATIENCE = {"begin": LIMITS.begin_seconds, "round": LIMITS.round_seconds, "handover": LIMITS.handover_seconds}


class ScriptedTarget:
    """Answers at once, except at ``stage``: there it says that it was ``reached``, and waits for ``answer``."""

    address = "target:1"

    def __init__(self, stage: str = "") -> None:
        self.stage = stage
        self.reached = asyncio.Event()
        self.answer = asyncio.Event()
        self.error: UnavailableError | None = None
        self.received: dict[str, list[int]] = {}
        self.taken_over: list[str] = []
        self.left: list[str] = []

    async def checkpoint_of(self, instance_id: str) -> str:
        raise NotImplementedError

    @asynccontextmanager
    async def receive(self, instance_id: str) -> AsyncIterator["ScriptedReceiver"]:
        receiver = ScriptedReceiver(self)
        try:
            yield receiver
        finally:
            self.left.append(receiver.generation_id)

    async def answer_at(self, stage: str) -> None:
        if stage == self.stage:
            self.reached.set()
            await self.answer.wait()
            if self.error is not None:
                raise self.error


class ScriptedReceiver:
    """One generation's way to it."""

    def __init__(self, target: ScriptedTarget) -> None:
        self.sent_bytes = 7
        self.generation_id = ""
        self._target = target

    async def begin(self, request: GenerationRequest) -> None:
        self.generation_id = request.generation_id
        self._target.received[self.generation_id] = list(request.emitted_token_ids)
        await self._target.answer_at("begin")

    async def round(self, position: int, token_ids: tuple[int, ...]) -> None:
        self._take(position, token_ids)
        await self._target.answer_at("round")

    async def hand_over(self, position: int, token_ids: tuple[int, ...]) -> None:
        self._take(position, token_ids)
        await self._target.answer_at("handover")
        self._target.taken_over.append(self.generation_id)

    def _take(self, position: int, token_ids: tuple[int, ...]) -> None:
        received = self._target.received[self.generation_id]
        assert position == len(received)
        received += token_ids


class Bench:
    """A source with an engine that steps as allowed, a clock that the test turns, and what was reported."""

    def __init__(self, target: ScriptedTarget) -> None:
        self.engine = SteppedEngine()
        self.loop = EngineLoop(self.engine)
        self.clock = ManualClock()
        self.target = target
        self.outcomes: list[Outcome] = []
        self.read_on = Changes()
        self.events: dict[str, Events] = {}

    def migration(self) -> Migration:
        return Migration(self.loop, self.target, "m-2", clock=self.clock, limits=LIMITS, report=self.outcomes.append)

    async def read(self, asked: GenerationRequest) -> Events:
        events = self.events[asked.generation_id] = []
        async with aclosing(self.loop.generate(asked)) as batches:
            async for batch in batches:
                events += batch  # type: ignore[arg-type]
                self.read_on.note()
        return events

    async def emit(self, count: int, generation_id: str = "x") -> None:
        """Let the engine make so many steps, and wait until the generation's tokens have come."""
        stream = next(stream for stream in self.loop.generations if stream.generation_id == generation_id)
        goal = len(stream.token_ids) + count
        for _ in range(count):
            self.engine.permits.release()
        while True:
            changed = self.read_on.upcoming
            if len(stream.token_ids) >= goal or stream.over.is_set():
                return
            await changed.wait()

    async def running(self, count: int) -> None:
        """Return when so many generations are there."""
        while True:
            changed = self.loop.changes.upcoming
            if len(self.loop.generation_ids) == count:
                return
            await changed.wait()

    async def settle(self) -> None:
        """Let every task that can go on do so."""
        for _ in range(50):
            await asyncio.sleep(0)

    def finish(self) -> None:
        self.engine.permits.release(1000)


@asynccontextmanager
async def bench(target: ScriptedTarget) -> AsyncIterator[Bench]:
    made = Bench(target)
    try:
        async with asyncio.timeout(20):
            yield made
    finally:
        await made.loop.close()


def whole(asked: GenerationRequest) -> list[int]:
    return tokens(run(FakeEngine(), [asked])[asked.generation_id])


def ids(events: Events) -> list[int]:
    return [event.token_id for event in events if isinstance(event, Token)]


async def to_stage(
    made: Bench, asked: GenerationRequest, tasks: asyncio.TaskGroup
) -> tuple[asyncio.Task, asyncio.Task]:  # type: ignore[type-arg]
    """Bring one generation's migration to the stage where its target waits; return its reader and the migration."""
    reading = tasks.create_task(made.read(asked))
    await made.running(1)
    await made.emit(6)
    stage, made.target.stage = made.target.stage, "begin"
    moving = tasks.create_task(made.migration().run())
    await made.target.reached.wait()
    if stage != "begin":
        if stage == "round":
            await made.emit(6)
        made.target.reached.clear()
        made.target.stage = stage
        made.target.answer.set()
        made.target.answer = asyncio.Event()
        await made.target.reached.wait()
    return reading, moving


async def test_rounds_shrink_and_the_target_gets_every_token_once() -> None:
    asked = request("x", max_tokens=50)
    async with bench(ScriptedTarget("round")) as made, asyncio.TaskGroup() as tasks:
        reading, moving = await to_stage(made, asked, tasks)
        await made.emit(5)
        made.target.reached.clear()
        made.target.answer.set()
        made.target.answer = asyncio.Event()
        await made.target.reached.wait()
        await made.emit(2)
        made.target.answer.set()
        await moving
        events = await reading
        (moved,) = made.outcomes
    assert isinstance(moved, Moved)
    assert moved.round_tokens == (3 + 6, 6, 5, 2)
    assert (moved.position, moved.sent_bytes) == (19, 7)
    assert events[-1] == Migrated("x", "target:1", "m-2", 19)
    assert ids(events) == made.target.received["x"] == whole(asked)[:19]
    assert made.target.taken_over == ["x"]
    assert not made.engine._prefixes


async def test_a_gap_that_shrinks_no_more_is_handed_over() -> None:
    asked = request("x", max_tokens=100)
    async with bench(ScriptedTarget("round")) as made, asyncio.TaskGroup() as tasks:
        reading, moving = await to_stage(made, asked, tasks)
        await made.emit(20)
        made.target.answer.set()
        await moving
        await reading
        (moved,) = made.outcomes
    assert isinstance(moved, Moved)
    assert moved.round_tokens == (9, 6, 20)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("silent", [True, False])
async def test_a_target_that_fails_leaves_the_generation_where_it_was(stage: str, silent: bool) -> None:
    asked = request("x", max_tokens=40)
    async with bench(ScriptedTarget(stage)) as made, asyncio.TaskGroup() as tasks:
        reading, moving = await to_stage(made, asked, tasks)
        if silent:
            await made.clock.advance(PATIENCE[stage], sleeper=PATIENCE[stage])
        else:
            made.target.error = UnavailableError("gone", reason="RPC_UNAVAILABLE")
            made.target.answer.set()
        await moving
        made.finish()
        assert tokens(await reading) == whole(asked)  # type: ignore[arg-type]
    (stayed,) = made.outcomes
    assert isinstance(stayed, Stayed)
    assert stayed.reason == ("TARGET_SILENT" if silent else "RPC_UNAVAILABLE")
    assert made.target.taken_over == []
    assert made.target.left == ["x"]


@pytest.mark.parametrize("stage", ["begin", "round"])
@pytest.mark.parametrize("stop", [True, False])
async def test_a_generation_that_ends_in_the_middle_of_a_round_just_ends(stage: str, stop: bool) -> None:
    asked = request("x", max_tokens=20)
    if stop:
        asked = request("x", max_tokens=100, stop_token_ids=(whole(asked)[18],))
    async with bench(ScriptedTarget(stage)) as made, asyncio.TaskGroup() as tasks:
        reading, moving = await to_stage(made, asked, tasks)
        made.finish()
        assert tokens(await reading) == whole(asked)  # type: ignore[arg-type]
        await moving
    assert made.outcomes == []
    assert made.target.left == ["x"]
    assert made.target.taken_over == []


@pytest.mark.parametrize("stage", STAGES)
async def test_a_generation_that_is_cancelled_is_dropped_there_at_once(stage: str) -> None:
    async with bench(ScriptedTarget(stage)) as made, asyncio.TaskGroup() as tasks:
        reading, moving = await to_stage(made, request("x", max_tokens=40), tasks)
        reading.cancel()
        await moving
        assert made.outcomes == []
        assert made.target.left == ["x"]
        await made.loop.close()
    assert not made.engine._prefixes


@pytest.mark.parametrize("stage", STAGES)
async def test_cancelling_the_migration_leaves_the_generation_where_it_was(stage: str) -> None:
    asked = request("x", max_tokens=40)
    async with bench(ScriptedTarget(stage)) as made, asyncio.TaskGroup() as tasks:
        reading, moving = await to_stage(made, asked, tasks)
        moving.cancel()
        made.finish()
        assert tokens(await reading) == whole(asked)  # type: ignore[arg-type]
    assert made.outcomes == []
    assert made.target.left == ["x"]


async def test_a_handover_stops_the_source_until_it_is_answered() -> None:
    async with bench(ScriptedTarget("handover")) as made, asyncio.TaskGroup() as tasks:
        reading, moving = await to_stage(made, request("x", max_tokens=40), tasks)
        made.finish()
        (stream,) = made.loop.generations
        assert await made.loop.hold(stream) == tuple(stream.token_ids)
        assert len(stream.token_ids) == 6
        made.target.answer.set()
        await moving
        assert len(ids(await reading)) == 6


async def test_generations_that_come_during_the_migration_move_too() -> None:
    async with bench(ScriptedTarget("round")) as made, asyncio.TaskGroup() as tasks:
        first, moving = await to_stage(made, request("x", max_tokens=40), tasks)
        second = tasks.create_task(made.read(request("y", (4, 5), max_tokens=40)))
        await made.running(2)
        made.target.answer.set()
        await moving
        assert made.loop.generation_ids == ()
        assert isinstance((await first)[-1], Migrated)
        assert isinstance((await second)[-1], Migrated)
    assert {outcome.generation_id for outcome in made.outcomes} == {"x", "y"}


async def test_one_that_fails_holds_up_no_other() -> None:
    async with bench(ScriptedTarget("begin")) as made, asyncio.TaskGroup() as tasks:
        first, moving = await to_stage(made, request("x", max_tokens=40), tasks)
        made.target.stage = ""
        second = tasks.create_task(made.read(request("y", (4, 5), max_tokens=40)))
        assert isinstance((await second)[-1], Migrated)
        made.target.error = UnavailableError("gone", reason="RPC_UNAVAILABLE")
        made.target.answer.set()
        await moving
        made.finish()
        assert isinstance((await first)[-1], Finished)
    assert [type(outcome) for outcome in made.outcomes] == [Moved, Stayed]


async def test_a_generation_is_moved_by_one_migration_at_a_time() -> None:
    async with bench(ScriptedTarget("round")) as made, asyncio.TaskGroup() as tasks:
        reading, moving = await to_stage(made, request("x", max_tokens=40), tasks)
        await made.migration().run()
        (stayed,) = made.outcomes
        assert isinstance(stayed, Stayed)
        assert stayed.reason == "MIGRATION_UNDER_WAY"
        made.target.answer.set()
        await moving
        assert isinstance((await reading)[-1], Migrated)


async def test_a_received_generation_moves_on_when_its_reader_has_come() -> None:
    asked = request("x", max_tokens=40)
    async with bench(ScriptedTarget()) as made, asyncio.TaskGroup() as tasks:
        stream = made.loop.receive(asked.going_on_after(whole(asked)[:5]))
        made.engine.permits.release(5)
        await stream.caught_up()
        moving = tasks.create_task(made.migration().run())
        await asyncio.sleep(0)
        assert made.outcomes == []
        events = await made.read(asked.going_on_after(whole(asked)[:5]))
        await moving
    assert isinstance(events[-1], Migrated)
    assert made.target.received["x"] == whole(asked)[: events[-1].position]


class QueueingTarget(ScriptedTarget):
    """Answers the first round of a generation when the test says so, and everything else at once."""

    def __init__(self, *generation_ids: str) -> None:
        super().__init__("begin")
        self.computed = {generation_id: asyncio.Event() for generation_id in generation_ids}

    async def answer_at(self, stage: str) -> None:
        if stage == "begin":
            await self.computed[list(self.received)[-1]].wait()


@pytest.mark.parametrize("silent", [True, False])
async def test_the_first_round_is_bounded_by_silence_however_many_wait_for_it(silent: bool) -> None:
    target, slow = QueueingTarget("x", "y", "z"), 0.9 * LIMITS.begin_seconds
    async with bench(target) as made, asyncio.TaskGroup() as tasks:
        readings = [tasks.create_task(made.read(request(name, max_tokens=40))) for name in target.computed]
        await made.running(3)
        moving = tasks.create_task(made.migration().run())
        for name in list(target.computed)[: 1 if silent else 3]:
            await made.clock.advance(slow, sleeper=LIMITS.begin_seconds)
            target.computed[name].set()
            await made.settle()
        if silent:
            await made.clock.advance(slow, sleeper=LIMITS.begin_seconds)
            await made.settle()
            assert made.outcomes == []
            await made.clock.advance(slow, sleeper=LIMITS.begin_seconds)
        await moving
        made.finish()
        last = [(await reading)[-1] for reading in readings]
    assert [type(one) for one in last] == [Migrated, *[Finished if silent else Migrated] * 2]
    assert [outcome.reason for outcome in made.outcomes if isinstance(outcome, Stayed)] == [
        "TARGET_SILENT"
    ] * 2 * silent

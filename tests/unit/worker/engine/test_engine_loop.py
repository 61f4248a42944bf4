"""The engine's thread and the streams that its events come out of."""

import asyncio
import threading

import pytest

from kindling.platform.errors import (
    AlreadyExistsError,
    DataLossError,
    InternalError,
    InvalidArgumentError,
    UnavailableError,
)
from kindling.worker.adapters.fake_engine import FakeEngine
from kindling.worker.domain.generation import Finished, FinishReason, GenerationRequest, Token
from kindling.worker.engine_loop import EngineLoop
from kindling.worker.ports import StepEvent
from support.engines import reason, request, run, tokens


class SteppedEngine(FakeEngine):
    """Steps only as often as the test allows, and fails when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.allowed = threading.Semaphore(0)
        self.error: BaseException | None = None
        self.thread_names: set[str] = set()
        self.closed = False

    def step(self) -> list[Token | Finished]:
        self.allowed.acquire()
        self.thread_names.add(threading.current_thread().name)
        if self.error is not None:
            raise self.error
        return super().step()

    def allow(self, steps: int = 1) -> None:
        self.allowed.release(steps)

    def close(self) -> None:
        super().close()
        self.closed = True


async def collect(loop: EngineLoop, asked: GenerationRequest) -> list[Token | Finished]:
    return [event async for batch in loop.generate(asked) for event in batch]


async def test_many_generations_run_at_once_and_equal_a_plain_run() -> None:
    loop = EngineLoop(FakeEngine())
    requests = [request(str(n), (n + 1,), max_tokens=50) for n in range(40)]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(collect(loop, asked)) for asked in requests]
    expected = run(FakeEngine(), requests)
    for asked, task in zip(requests, tasks, strict=True):
        assert task.result() == expected[asked.generation_id]
    assert loop.generation_ids == ()
    await loop.close()


async def test_a_slow_reader_gets_everything_since_its_last_look() -> None:
    engine = SteppedEngine()
    loop = EngineLoop(engine, name="kindling-engine")
    stream = loop.generate(request("x", max_tokens=9))
    other = asyncio.ensure_future(collect(loop, request("y", max_tokens=9)))
    engine.allow()
    first = await anext(stream)
    engine.allow(20)
    await other
    second = await anext(stream)
    assert len(first) + len(second) == 10
    assert len(tokens([*first, *second])) == 9
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    await loop.close()
    assert engine.thread_names == {"kindling-engine_0"}


async def test_cancel_ends_the_stream_with_a_terminal_event() -> None:
    engine = SteppedEngine()
    loop = EngineLoop(engine)
    stream = loop.generate(request("x", max_tokens=100))
    engine.allow()
    events = await anext(stream)
    loop.cancel("x")
    loop.cancel("unknown")
    engine.allow(100)
    events += [event async for batch in stream for event in batch]
    assert reason(events) is FinishReason.CANCELLED
    assert len(tokens(events)) < 100
    await loop.close()


async def test_leaving_the_stream_cancels_and_the_id_can_be_used_at_once() -> None:
    engine = SteppedEngine()
    loop = EngineLoop(engine)
    first = loop.generate(request("x", (1,), max_tokens=100))
    engine.allow()
    await anext(first)
    await first.aclose()
    engine.allow(100)
    again = await collect(loop, request("x", (2,), max_tokens=20))
    assert again == run(FakeEngine(), [request("x", (2,), max_tokens=20)])["x"]
    await loop.close()
    assert loop.stats.running == 0


async def test_a_cancelled_reader_cancels_its_generation() -> None:
    engine = SteppedEngine()
    loop = EngineLoop(engine)
    task = asyncio.ensure_future(collect(loop, request("x", max_tokens=100)))
    other = asyncio.ensure_future(collect(loop, request("y", max_tokens=5)))
    engine.allow()
    await asyncio.sleep(0)
    task.cancel()
    engine.allow(100)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(tokens(await other)) == 5
    await loop.close()


async def test_a_refused_request_fails_alone() -> None:
    loop = EngineLoop(FakeEngine())
    other = asyncio.ensure_future(collect(loop, request("y")))
    with pytest.raises(InvalidArgumentError, match="no tokens"):
        await collect(loop, request("x", ()))
    assert len(tokens(await other)) == 8
    assert len(tokens(await collect(loop, request("x")))) == 8
    await loop.close()


async def test_an_id_in_use_is_refused() -> None:
    engine = SteppedEngine()
    loop = EngineLoop(engine)
    stream = loop.generate(request("x"))
    engine.allow(100)
    await anext(stream)
    with pytest.raises(AlreadyExistsError):
        await collect(loop, request("x"))
    await stream.aclose()
    await loop.close()


@pytest.mark.parametrize(
    ("error", "expected", "expected_reason"),
    [
        (RuntimeError("shapes differ"), InternalError, "ENGINE_FAILED"),
        (MemoryError(), InternalError, "ENGINE_FAILED"),
        (DataLossError("A chunk is bad.", reason="CHUNK_BAD"), DataLossError, "CHUNK_BAD"),
    ],
)
async def test_a_failing_step_fails_all_and_stops_cleanly(
    error: Exception, expected: type[InternalError], expected_reason: str
) -> None:
    engine = SteppedEngine()
    loop = EngineLoop(engine)
    tasks = [asyncio.ensure_future(collect(loop, request(name))) for name in "ab"]
    engine.error = error
    engine.allow()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(result, expected)
        assert result.reason == expected_reason
    with pytest.raises(expected):
        await collect(loop, request("later"))
    with pytest.raises(expected):
        await loop.wait_closed()
    await loop.close()
    assert engine.closed


async def test_tokens_before_a_failure_are_delivered_first() -> None:
    engine = SteppedEngine()
    loop = EngineLoop(engine)
    stream = loop.generate(request("x", max_tokens=100))
    engine.allow(3)
    seen: list[Token | Finished] = []
    while len(seen) < 3:
        seen += await anext(stream)
    engine.error = RuntimeError("boom")
    engine.allow()
    with pytest.raises(InternalError, match="boom"):
        await anext(stream)
    assert [event.position for event in seen if isinstance(event, Token)] == [0, 1, 2]


async def test_close_ends_open_streams_and_refuses_new_ones() -> None:
    engine = SteppedEngine()
    loop = EngineLoop(engine)
    stream = loop.generate(request("x", max_tokens=100))
    engine.allow()
    await anext(stream)
    closing = asyncio.ensure_future(loop.close())
    await asyncio.sleep(0)  # it has to be closing before the step ends, or another step waits to be allowed
    engine.allow()
    await closing
    with pytest.raises(UnavailableError, match="stopping"):
        async for _ in stream:
            pass
    with pytest.raises(UnavailableError):
        await collect(loop, request("y"))
    await loop.wait_closed()
    await loop.close()
    assert engine.closed


async def test_an_idle_loop_closes() -> None:
    loop = EngineLoop(FakeEngine())
    async with asyncio.timeout(10):
        await loop.close()
    assert loop.context_length == 4096


async def test_an_engine_is_kept_if_asked_and_serves_the_next_loop() -> None:
    engine = SteppedEngine()
    engine.allow(1000)
    first = EngineLoop(engine)
    expected = tokens(await collect(first, request("g")))
    await first.close(keep_engine=True)
    await first.wait_closed()
    assert (first.kept_engine, engine.closed) == (engine, False)
    second = EngineLoop(engine)
    assert tokens(await collect(second, request("g"))) == expected
    await second.close()
    assert (second.kept_engine, engine.closed) == (None, True)


async def test_an_engine_with_work_left_is_not_kept() -> None:
    engine = SteppedEngine()
    loop = EngineLoop(engine)
    stream = loop.generate(request("g", max_tokens=100))
    engine.allow()
    await anext(stream)
    closing = asyncio.ensure_future(loop.close(keep_engine=True))
    engine.allow()
    await closing
    await stream.aclose()
    assert (loop.kept_engine, engine.closed) == (None, True)


async def test_an_engine_that_failed_is_not_kept() -> None:
    engine = SteppedEngine()
    engine.error = DataLossError("bad chunk", reason="CHUNK_CORRUPT")
    engine.allow()
    loop = EngineLoop(engine)
    with pytest.raises(DataLossError):
        await collect(loop, request("g"))
    await loop.close(keep_engine=True)
    assert (loop.kept_engine, engine.closed) == (None, True)


class RecordingEngine(FakeEngine):
    """Tells who got a token in each step."""

    def __init__(self) -> None:
        super().__init__()
        self.advanced: list[set[str]] = []

    def step(self) -> list[StepEvent]:
        events = super().step()
        self.advanced.append({event.generation_id for event in events if isinstance(event, Token)})
        return events


async def test_a_step_waits_for_the_companions_of_what_was_handed_over_and_for_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kindling.worker.engine_thread.COMPANION_SECONDS", 60.0)
    engine = RecordingEngine()
    loop = EngineLoop(engine)
    streams = [loop.receive(request(name, max_tokens=3)) for name in ("a", "b")]
    async with asyncio.timeout(20):
        for stream in streams:
            await stream.caught_up()
        for stream in streams:
            await loop.extend(stream, (), release=True)
        for stream in streams:
            await stream.over.wait()
    assert [names for names in engine.advanced if names] == [{"a", "b"}] * 3
    await loop.close()

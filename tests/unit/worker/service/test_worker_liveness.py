"""Signs of life: a silent generation's reader learns whether the engine gets on."""

import asyncio

import grpc

from kindling.v1 import inference_pb2
from kindling.worker.domain.instance import LoadProgress
from support.worker_service import ManualClock, generate_request, read, running_worker


async def next_event(call: "grpc.aio.UnaryStreamCall", clock: ManualClock) -> inference_pb2.GenerateResponse:
    """The next event, while time passes."""
    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(read(call))
        while not reading.done():
            await clock.advance(0.5, sleeper=0.5)
    event = reading.result()
    assert isinstance(event, inference_pb2.GenerateResponse)
    return event


async def test_signs_of_life_come_in_silence_while_the_engine_makes_steps() -> None:
    clock = ManualClock()
    async with running_worker(stepped=True, clock=clock) as worker:
        await worker.start()
        permits = worker.engines.engine.permits
        call = worker.stub.Generate(generate_request(max_tokens=2))
        # While it is allowed no real step, the stepped engine makes empty ones.
        assert (await next_event(call, clock)).HasField("alive")
        assert (await next_event(call, clock)).HasField("alive")
        permits.release()
        while not (event := await next_event(call, clock)).HasField("tokens"):
            assert event.HasField("alive")
        assert event.tokens.position == 0
        permits.release()
        while not (event := await next_event(call, clock)).HasField("tokens"):
            assert event.HasField("alive")
        assert (await next_event(call, clock)).HasField("finished")


async def test_no_sign_of_life_comes_while_the_engine_hangs_and_one_when_its_weights_come_further() -> None:
    clock = ManualClock()
    async with running_worker(clock=clock) as worker:
        worker.store.holding = worker.engines.hungry = True
        await worker.start()
        checkpoint = worker.store.held[0]
        call = worker.stub.Generate(generate_request(max_tokens=2))
        await asyncio.to_thread(checkpoint.waiting.wait)
        for _ in range(5):
            await clock.advance(0.5, sleeper=0.5)
        worker.store.progress(LoadProgress(10, 100))
        await clock.advance(0.5, sleeper=0.5)
        for _ in range(5):
            await clock.advance(0.5, sleeper=0.5)
        await clock.until_sleeping(0.5)  # so that the last look is before the engine gets on
        checkpoint.finish()
        events = [event async for event in call]
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds.count("alive") == 1
    assert kinds[0] == "alive"
    assert kinds[-1] == "finished"

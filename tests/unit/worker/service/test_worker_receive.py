"""The target's side of a migration, over real gRPC: what it answers, what it keeps, what it drops and when."""

import asyncio
from collections.abc import Sequence

import grpc
import pytest

from kindling.platform.errors import FailedPreconditionError, InvalidArgumentError, KindlingError, NotFoundError
from kindling.platform.rpc.channel import remote_errors
from kindling.v1 import inference_pb2
from kindling.worker.adapters.fake_engine import FakeEngine
from kindling.worker.domain.generation import GenerationRequest, Token
from kindling.worker.domain.sampling import SamplingParams
from support.worker_service import ManualClock, WorkerUnderTest, generate_request, read, running_worker

Request = inference_pb2.ReceiveGenerationRequest
MAX_TOKENS = 30


def expected() -> list[int]:
    """What the fake engine answers to the prompt of ``generate_request``."""
    engine = FakeEngine()
    engine.add(GenerationRequest("g", (1, 2, 3), SamplingParams(max_tokens=MAX_TOKENS)))
    tokens = []
    while engine.has_work:
        tokens += [event.token_id for event in engine.step() if isinstance(event, Token)]
    return tokens


def generation(emitted: Sequence[int], **sampling: float) -> inference_pb2.GenerateRequest:
    request = generate_request(max_tokens=MAX_TOKENS, **sampling)
    request.emitted_token_ids[:] = emitted
    return request


class Source:
    """A source that does what the test says."""

    def __init__(self, worker: WorkerUnderTest) -> None:
        self.call = worker.stub.ReceiveGeneration()

    async def begin(self, emitted: Sequence[int], **sampling: float) -> None:
        await self.call.write(Request(begin=generation(emitted, **sampling)))
        assert (await self._answer()).caught_up.position == len(emitted)

    async def round(self, position: int, token_ids: Sequence[int]) -> None:
        await self.call.write(Request(round=inference_pb2.TokenBatch(position=position, token_ids=token_ids)))
        assert (await self._answer()).caught_up.position == position + len(token_ids)

    async def hand_over(self, position: int, token_ids: Sequence[int]) -> None:
        await self.call.write(Request(handover=inference_pb2.TokenBatch(position=position, token_ids=token_ids)))
        assert (await self._answer()).HasField("taken_over")
        assert await self.call.read() is grpc.aio.EOF

    async def abandon(self) -> None:
        await self.call.write(Request(abandon=inference_pb2.GenerationAbandoned()))
        assert await self.call.read() is grpc.aio.EOF

    async def _answer(self) -> inference_pb2.ReceiveGenerationResponse:
        answer = await self.call.read()
        assert isinstance(answer, inference_pb2.ReceiveGenerationResponse)
        return answer


async def attach(worker: WorkerUnderTest, emitted: Sequence[int], **sampling: float) -> list[int]:
    """Generate to the end, and return every token from the prompt on."""
    token_ids = list(emitted)
    async for event in worker.stub.Generate(generation(emitted, **sampling)):
        if event.HasField("tokens"):
            assert event.tokens.position == len(token_ids)
            token_ids += event.tokens.token_ids
        last = event
    assert last.finished.completion_tokens == len(token_ids)
    return token_ids


async def stop_instance(worker: WorkerUnderTest) -> None:
    await worker.stub.StopInstance(inference_pb2.StopInstanceRequest(instance_id="m-1"))


async def test_a_generation_is_received_taken_over_and_read() -> None:
    whole = expected()
    async with running_worker() as worker:
        await worker.start()
        source = Source(worker)
        await source.begin(whole[:5])
        assert worker.instances.view.instances[0].generation_ids == ("g",)
        await source.round(5, whole[5:9])
        await source.round(9, [])
        await source.hand_over(9, whole[9:10])
        assert await attach(worker, whole[:10]) == whole
        assert worker.instances.view.instances[0].generation_ids == ()
        assert len(worker.engines.built[0]._prefixes) == 0


@pytest.mark.parametrize("known", [0, 5, 9, 10, 14, MAX_TOKENS])
async def test_a_reader_gets_on_at_any_position_after_the_handover(known: int) -> None:
    whole = expected()
    async with running_worker() as worker:
        await worker.start()
        source = Source(worker)
        await source.begin(whole[:5])
        await source.hand_over(5, whole[5:10])
        assert await attach(worker, whole[:known]) == whole


@pytest.mark.parametrize("known", [0, 3, 5, 9, MAX_TOKENS])
@pytest.mark.parametrize("breaks_off", [True, False])
async def test_a_reader_who_comes_before_the_handover_goes_on_with_what_is_computed(
    known: int, breaks_off: bool
) -> None:
    whole = expected()
    async with running_worker() as worker:
        await worker.start()
        source = Source(worker)
        await source.begin(whole[:5])
        if breaks_off:
            source.call.cancel()
        assert await attach(worker, whole[:known]) == whole
        assert len(worker.engines.built[0]._prefixes) == 0


async def test_a_reader_with_other_tokens_gets_a_continuation_of_its_own() -> None:
    whole = expected()
    async with running_worker() as worker:
        await worker.start()
        source = Source(worker)
        await source.begin([1, 1, 1])
        await source.hand_over(3, [])
        assert await attach(worker, whole[:6]) == whole
        assert worker.instances.view.instances[0].generation_ids == ()


async def test_log_probabilities_that_were_not_received_are_computed_anew() -> None:
    whole = expected()
    async with running_worker() as worker:
        await worker.start()
        source = Source(worker)
        await source.begin(whole[:8], top_logprobs=2)
        await source.hand_over(8, [])
        events = [event async for event in worker.stub.Generate(generation(whole[:4], top_logprobs=2))]
    assert [token for event in events for token in event.tokens.token_ids] == whole[4:]
    assert sum(len(event.tokens.logprobs) for event in events) == MAX_TOKENS - 4


async def test_a_source_whose_reader_has_come_here_is_told_so() -> None:
    whole = expected()
    async with running_worker(stepped=True) as worker:
        await worker.start()
        worker.engines.engine.permits.release(1)
        source = Source(worker)
        await source.begin(whole[:5])
        call = worker.stub.Generate(generation(whole[:5]))
        worker.engines.engine.permits.release(1)
        await read(call)
        with pytest.raises(FailedPreconditionError) as caught, remote_errors("the worker"):
            await source.hand_over(5, whole[5:6])
        assert caught.value.reason == "GENERATION_RESUMED"
        worker.engines.engine.permits.release(MAX_TOKENS)
        while (event := await call.read()) is not grpc.aio.EOF:
            last = event
        assert last.finished.completion_tokens == MAX_TOKENS


async def test_what_is_abandoned_is_dropped_at_once() -> None:
    async with running_worker(clock=ManualClock()) as worker:
        await worker.start()
        source = Source(worker)
        await source.begin([4, 5])
        await source.abandon()
        assert worker.instances.view.instances[0].generation_ids == ()


async def test_what_its_own_tokens_end_is_dropped_at_once() -> None:
    whole = expected()
    async with running_worker(clock=ManualClock()) as worker:
        await worker.start()
        source = Source(worker)
        await source.begin(whole[:-2])
        with pytest.raises(FailedPreconditionError) as caught, remote_errors("the worker"):
            await source.round(MAX_TOKENS - 2, whole[-2:])
        assert caught.value.reason == "GENERATION_ENDED"
        assert worker.instances.view.instances[0].generation_ids == ()


@pytest.mark.parametrize("taken_over", [True, False])
async def test_what_nobody_comes_for_is_dropped_after_a_while(taken_over: bool) -> None:
    clock = ManualClock()
    async with running_worker(clock=clock) as worker:
        await worker.start()
        source = Source(worker)
        await source.begin([4, 5])
        if taken_over:
            await source.hand_over(2, [])
        else:
            source.call.cancel()
        await clock.advance(9.9, sleeper=10)
        assert worker.instances.view.instances[0].generation_ids == ("g",)
        await clock.advance(0.2, sleeper=10)
        await worker.until(lambda view: not view.instances[0].generation_ids)
        await stop_instance(worker)


async def test_a_generation_that_is_sent_again_replaces_what_was_received() -> None:
    whole = expected()
    async with running_worker() as worker:
        await worker.start()
        first = Source(worker)
        await first.begin(whole[:5])
        second = Source(worker)
        await second.begin(whole[:7])
        await second.hand_over(7, whole[7:8])
        assert await attach(worker, whole[:8]) == whole


async def test_an_instance_that_stops_waits_for_what_it_has_received() -> None:
    whole = expected()
    async with running_worker() as worker:
        await worker.start()
        source = Source(worker)
        await source.begin(whole[:5])
        await source.hand_over(5, [])
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(stop_instance(worker))
            await worker.until(lambda view: view.instances[0].state.value == "stopping")
            assert await attach(worker, whole[:5]) == whole
        assert worker.instances.view.instances == ()


async def test_a_worker_that_ends_does_not_wait_for_readers() -> None:
    async with asyncio.timeout(5), running_worker() as worker:
        await worker.start()
        source = Source(worker)
        await source.begin([4, 5])
        await source.hand_over(2, [])


@pytest.mark.parametrize(
    ("messages", "kind", "reason"),
    [
        ([Request()], InvalidArgumentError, "FIELD_MISSING"),
        ([Request(round=inference_pb2.TokenBatch(position=0))], InvalidArgumentError, "FIELD_MISSING"),
        ([Request(begin=generate_request(instance_id="m-9"))], NotFoundError, "INSTANCE_UNKNOWN"),
        ([Request(begin=generate_request(max_tokens=0))], InvalidArgumentError, "SAMPLING_PARAMETER_INVALID"),
        ([Request(begin=generation([10**6]))], InvalidArgumentError, "TOKEN_ID_INVALID"),
        ([Request(begin=generation(range(MAX_TOKENS)))], FailedPreconditionError, "GENERATION_ENDED"),
        ([Request(begin=generation([]))] * 2, InvalidArgumentError, "MESSAGE_UNEXPECTED"),
        (
            [Request(begin=generation([1])), Request(round=inference_pb2.TokenBatch(position=2, token_ids=[1]))],
            InvalidArgumentError,
            "POSITION_WRONG",
        ),
        (
            [Request(begin=generation([1])), Request(handover=inference_pb2.TokenBatch(position=0, token_ids=[1]))],
            InvalidArgumentError,
            "POSITION_WRONG",
        ),
        (
            [Request(begin=generation([1])), Request(round=inference_pb2.TokenBatch(position=1, token_ids=[10**6]))],
            InvalidArgumentError,
            "TOKEN_ID_INVALID",
        ),
    ],
)
async def test_what_makes_no_sense_is_refused(
    messages: list[inference_pb2.ReceiveGenerationRequest], kind: type[KindlingError], reason: str
) -> None:
    async with running_worker() as worker:
        await worker.start()
        call = worker.stub.ReceiveGeneration(iter(messages))
        with pytest.raises(kind) as caught, remote_errors("the worker"):
            async for _ in call:
                pass
        assert caught.value.reason == reason
        again = Source(worker)
        await again.begin([1])
        await again.abandon()

"""Generations over real gRPC: tokens, errors, cancellation."""

import grpc
import pytest

from kindling.platform.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    KindlingError,
    NotFoundError,
)
from kindling.platform.rpc.channel import remote_errors
from kindling.v1 import inference_pb2
from kindling.worker.adapters.fake_engine import FakeEngine
from kindling.worker.domain.generation import GenerationRequest, Token
from kindling.worker.domain.sampling import SamplingParams
from support.worker_service import generate_request, read, running_worker


def fake_tokens(count: int) -> list[int]:
    """What the fake engine answers to the prompt of ``generate_request``."""
    engine = FakeEngine()
    engine.add(GenerationRequest("g", (1, 2, 3), SamplingParams(max_tokens=count)))
    tokens = []
    while engine.has_work:
        tokens += [event.token_id for event in engine.step() if isinstance(event, Token)]
    return tokens


async def collect(call: "grpc.aio.UnaryStreamCall") -> tuple[list[int], inference_pb2.GenerationFinished]:
    """Token ids of a stream, which must have no gaps and one terminal event at its end."""
    events = [event async for event in call]
    ids: list[int] = []
    for event in events[:-1]:
        assert event.tokens.position == len(ids)
        ids += event.tokens.token_ids
    return ids, events[-1].finished


async def test_tokens_come_out_as_the_engine_made_them() -> None:
    async with running_worker() as worker:
        await worker.start()
        ids, finished = await collect(worker.stub.Generate(generate_request(max_tokens=50)))
    assert ids == fake_tokens(50)
    assert finished.reason == inference_pb2.FINISH_REASON_LENGTH
    assert (finished.prompt_tokens, finished.completion_tokens) == (3, 50)


async def test_a_generation_goes_on_after_tokens_emitted_elsewhere() -> None:
    expected = fake_tokens(10)
    async with running_worker() as worker:
        await worker.start()
        request = generate_request(max_tokens=10)
        request.emitted_token_ids.extend(expected[:4])
        events = [event async for event in worker.stub.Generate(request)]
    assert events[0].tokens.position == 4
    assert [token for event in events[:-1] for token in event.tokens.token_ids] == expected[4:]
    assert events[-1].finished.completion_tokens == 10


async def test_tokens_made_together_travel_together() -> None:
    async with running_worker() as worker:
        await worker.start()
        events = [event async for event in worker.stub.Generate(generate_request(max_tokens=500))]
    assert len(events) < 250


async def test_log_probabilities_come_with_their_tokens() -> None:
    async with running_worker() as worker:
        await worker.start()
        events = [event async for event in worker.stub.Generate(generate_request(max_tokens=3, top_logprobs=2))]
    logprobs = [entry for event in events[:-1] for entry in event.tokens.logprobs]
    assert len(logprobs) == 3
    assert logprobs[0].logprob == -1.0
    assert [top.logprob for top in logprobs[0].top] == [-1.0, -2.0]


async def test_no_log_probabilities_unless_asked_for() -> None:
    async with running_worker() as worker:
        await worker.start()
        events = [event async for event in worker.stub.Generate(generate_request())]
    assert not any(event.tokens.logprobs for event in events)


@pytest.mark.parametrize(
    ("change", "kind", "reason"),
    [
        ({"instance_id": "nobody"}, NotFoundError, "INSTANCE_UNKNOWN"),
        ({"max_tokens": 0}, InvalidArgumentError, "SAMPLING_PARAMETER_INVALID"),
        ({"temperature": float("nan")}, InvalidArgumentError, "SAMPLING_PARAMETER_INVALID"),
        ({"temperature": 2.1}, InvalidArgumentError, "SAMPLING_PARAMETER_INVALID"),
        ({"top_logprobs": 1000}, InvalidArgumentError, "SAMPLING_PARAMETER_INVALID"),
        ({"generation_id": ""}, InvalidArgumentError, "FIELD_MISSING"),
    ],
)
async def test_a_request_that_cannot_run_says_why(
    change: dict[str, float], kind: type[KindlingError], reason: str
) -> None:
    async with running_worker() as worker:
        await worker.start()
        with pytest.raises(kind) as caught, remote_errors("the worker"):
            await worker.stub.Generate(generate_request(**change)).read()
        assert caught.value.reason == reason


async def test_a_prompt_that_the_engine_refuses_leaves_nothing_behind() -> None:
    async with running_worker() as worker:
        await worker.start()
        request = generate_request()
        request.prompt_token_ids.append(10**6)
        with pytest.raises(InvalidArgumentError) as caught, remote_errors("the worker"):
            await worker.stub.Generate(request).read()
        assert caught.value.reason == "TOKEN_ID_INVALID"
        await worker.until(lambda view: not view.instances[0].generation_ids)
        assert (await collect(worker.stub.Generate(generate_request())))[0] == fake_tokens(8)


async def test_an_instance_that_starts_takes_no_generation() -> None:
    async with running_worker() as worker:
        worker.store.may_open.clear()
        start = worker.stub.StartInstance(
            inference_pb2.StartInstanceRequest(instance_id="m-1", model="m", checkpoint_digest="d")
        )
        await read(start)
        with pytest.raises(FailedPreconditionError) as caught, remote_errors("the worker"):
            await worker.stub.Generate(generate_request()).read()
        assert caught.value.reason == "INSTANCE_NOT_READY"


async def test_one_id_runs_once() -> None:
    async with running_worker(stepped=True) as worker:
        await worker.start()
        first = worker.stub.Generate(generate_request(max_tokens=2))
        worker.engines.engine.permits.release()
        await read(first)
        with pytest.raises(AlreadyExistsError), remote_errors("the worker"):
            await worker.stub.Generate(generate_request()).read()
        assert worker.instances.view.instances[0].generation_ids == ("g",)
        worker.engines.engine.permits.release(10)
        assert (await read(first)).tokens.position == 1  # type: ignore[attr-defined]


async def test_cancelling_the_call_cancels_the_generation_while_it_waits_for_a_token() -> None:
    async with running_worker(stepped=True) as worker:
        await worker.start()
        call = worker.stub.Generate(generate_request(max_tokens=1000))
        worker.engines.engine.permits.release()
        await read(call)
        call.cancel()
        await worker.until(lambda view: not view.instances[0].generation_ids)
        await worker.stub.StopInstance(inference_pb2.StopInstanceRequest(instance_id="m-1"))
        assert not worker.engines.engine.has_work


async def test_a_client_that_reads_nothing_and_leaves_is_forgotten() -> None:
    async with running_worker(stepped=True) as worker:
        await worker.start()
        calls = [
            worker.stub.Generate(generate_request(f"g{index}", max_tokens=4000, top_logprobs=20)) for index in range(8)
        ]
        await worker.until(lambda view: len(view.instances[0].generation_ids) == 8)
        worker.engines.engine.permits.release(2000)
        for call in calls:
            call.cancel()
        await worker.until(lambda view: not view.instances[0].generation_ids)
        worker.engines.engine.permits.release(4000)
        assert (await collect(worker.stub.Generate(generate_request("g0"))))[0] == fake_tokens(8)

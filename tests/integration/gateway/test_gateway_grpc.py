"""The gateway's gRPC port: GenerationService, and the scheduler's services passed on."""

import asyncio

import pytest

from kindling.platform.errors import InvalidArgumentError, KindlingError, NotFoundError, UnauthenticatedError
from kindling.platform.rpc.channel import open_channel, remote_errors
from kindling.v1 import (
    cluster_pb2,
    cluster_pb2_grpc,
    generation_pb2,
    generation_pb2_grpc,
    inference_pb2,
    model_pb2,
    model_pb2_grpc,
    scheduler_pb2,
)
from support.gateway_peers import MODEL, REPLY, Rig, gateway_rig


@pytest.fixture
async def rig():
    async with gateway_rig() as rig:
        yield rig


async def complete(
    rig: Rig, request: generation_pb2.CompleteRequest, **options
) -> list[generation_pb2.CompleteResponse]:
    channel = open_channel(rig.gateway.rpc.address)
    async with channel:
        with remote_errors("gateway"):
            return [
                event async for event in generation_pb2_grpc.GenerationServiceStub(channel).Complete(request, **options)
            ]


def text_of(events: list[generation_pb2.CompleteResponse]) -> str:
    return "".join(event.delta.text for event in events)


async def test_a_prompt_is_continued(rig: Rig):
    events = await complete(rig, generation_pb2.CompleteRequest(model=MODEL, prompt="Hello"))
    assert text_of(events) == REPLY
    ids = [token_id for event in events for token_id in event.delta.token_ids]
    assert ids == [*rig.worker.reply_ids, rig.worker.end_id]
    assert events[-2].choice_finished.reason == inference_pb2.FINISH_REASON_STOP
    finished = events[-1].finished
    assert (finished.prompt_tokens, finished.completion_tokens) == (len(rig.tokenizer.encode("Hello").ids), len(ids))
    assert finished.start == scheduler_pb2.START_KIND_WARM
    assert 0 < finished.first_token_seconds < 10


async def test_a_conversation_is_answered_with_sampling(rig: Rig):
    conversation = generation_pb2.Conversation(messages=[generation_pb2.ChatMessage(role="user", content="hi")])
    sampling = inference_pb2.SamplingParams(temperature=0, seed=5, max_tokens=4, top_logprobs=1, top_k=3)
    request = generation_pb2.CompleteRequest(
        model=MODEL, conversation=conversation, sampling=sampling, n=2, stop=["never"]
    )
    events = await complete(rig, request)
    assert {event.delta.index for event in events if event.HasField("delta")} == {0, 1}
    assert sum(len(event.delta.logprobs) for event in events) == 8
    asked = rig.worker.requests[0].sampling
    assert (asked.temperature, asked.max_tokens, asked.top_k, asked.top_logprobs) == (0, 4, 3, 1)
    assert events[-1].finished.completion_tokens == 8


async def test_waiting_is_reported(rig: Rig):
    rig.scheduler.before_grant = [scheduler_pb2.AcquireResponse(queued=scheduler_pb2.Queued(ahead=2))]
    events = await complete(rig, generation_pb2.CompleteRequest(model=MODEL, prompt="Hello"))
    assert events[0].waiting.queued.ahead == 2


@pytest.mark.parametrize(
    ("request_", "error", "field"),
    [
        (generation_pb2.CompleteRequest(model="none", prompt="a"), NotFoundError, "model"),
        (generation_pb2.CompleteRequest(model=MODEL), InvalidArgumentError, "prompt"),
        (generation_pb2.CompleteRequest(model=MODEL, prompt="a", stop=["x"] * 5), InvalidArgumentError, "stop"),
        (
            generation_pb2.CompleteRequest(
                model=MODEL, prompt="a", sampling=inference_pb2.SamplingParams(temperature=float("nan"))
            ),
            InvalidArgumentError,
            "temperature",
        ),
        (
            generation_pb2.CompleteRequest(
                model=MODEL, prompt="a", sampling=inference_pb2.SamplingParams(max_tokens=10**9)
            ),
            InvalidArgumentError,
            "max_tokens",
        ),
    ],
)
async def test_bad_requests_name_their_field(rig: Rig, request_, error: type[KindlingError], field: str):
    with pytest.raises(error) as caught:
        await complete(rig, request_)
    assert caught.value.field == field


async def test_a_call_left_by_its_client_is_cancelled(rig: Rig):
    rig.worker.hold = asyncio.Event()
    async with open_channel(rig.gateway.rpc.address) as channel:
        call = generation_pb2_grpc.GenerationServiceStub(channel).Complete(
            generation_pb2.CompleteRequest(model=MODEL, prompt="Hello")
        )
        await call.read()
        call.cancel()
        assert await rig.worker.cancelled.wait_for(1) == await rig.scheduler.released.wait_for(1)


async def test_model_and_cluster_services_are_passed_on(rig: Rig):
    async with open_channel(rig.gateway.rpc.address) as channel:
        models = model_pb2_grpc.ModelServiceStub(channel)
        assert (await models.GetModel(model_pb2.GetModelRequest(name=MODEL))).model.name == MODEL
        assert [model.name for model in (await models.ListModels(model_pb2.ListModelsRequest())).models] == [MODEL]
        assert (await models.EvictModel(model_pb2.EvictModelRequest(name=MODEL))).stopped_instances == 3
        await models.DeleteModel(model_pb2.DeleteModelRequest(name=MODEL))
        request = model_pb2.DeployModelRequest(request_id="r", name="new", source_uri="file:///x")
        events = [event async for event in models.DeployModel(request)]
        assert [event.WhichOneof("event") for event in events] == ["progress", "deployed"]
        assert rig.scheduler.deployed == [request]
        parts = [answer.part async for answer in models.ReadModelFiles(model_pb2.ReadModelFilesRequest(name=MODEL))]
        assert {part.path for part in parts} == set(rig.scheduler.models[MODEL].files)
        cluster = cluster_pb2_grpc.ClusterServiceStub(channel)
        assert (await cluster.GetClusterStatus(cluster_pb2.GetClusterStatusRequest())).leader_id == "scheduler-0"


async def test_errors_are_passed_on_whole(rig: Rig):
    async with open_channel(rig.gateway.rpc.address) as channel:
        with pytest.raises(NotFoundError) as caught, remote_errors("gateway"):
            await model_pb2_grpc.ModelServiceStub(channel).DeleteModel(model_pb2.DeleteModelRequest(name="none"))
    assert caught.value.reason == "MODEL_NOT_FOUND"


async def test_keys_hold_for_grpc_too():
    async with gateway_rig(api_keys="alpha") as rig:
        request = generation_pb2.CompleteRequest(model=MODEL, prompt="Hello")
        with pytest.raises(UnauthenticatedError):
            await complete(rig, request)
        assert text_of(await complete(rig, request, metadata=(("authorization", "Bearer alpha"),))) == REPLY
        async with open_channel(rig.gateway.rpc.address) as channel:
            with pytest.raises(UnauthenticatedError), remote_errors("gateway"):
                await model_pb2_grpc.ModelServiceStub(channel).ListModels(model_pb2.ListModelsRequest())

"""What happens to answers when clients, workers and schedulers come and go."""

import asyncio

import httpx
import pytest

from kindling.gateway.adapters.leader_client import LeaderClient
from kindling.gateway.adapters.models import GrpcModels
from kindling.gateway.background import Background
from kindling.gateway.domain.model_info import ModelInfo
from kindling.platform.clock import SystemClock
from kindling.platform.errors import (
    FailedPreconditionError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
)
from kindling.platform.rpc.channel import ChannelPool
from kindling.v1 import checkpoint_pb2, scheduler_pb2
from support.gateway_peers import MODEL, REPLY, FakeModel, FakeScheduler, Rig, gateway_rig

CHAT = "/v1/chat/completions"
BODY = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
async def rig():
    async with gateway_rig() as rig:
        yield rig


async def stream_text(rig: Rig) -> str:
    stream = await rig.openai.chat.completions.create(**BODY, stream=True)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])


async def test_a_stream_left_by_its_client_is_cancelled_and_released(rig: Rig):
    rig.worker.hold = asyncio.Event()
    async with rig.client.stream("POST", CHAT, json={**BODY, "stream": True, "n": 2}) as response:
        async for line in response.aiter_lines():
            if '"content":"H' in line:
                break
    assert len(set(await rig.worker.cancelled.wait_for(2))) == 2
    assert len(set(await rig.scheduler.released.wait_for(2))) == 2


async def test_a_whole_answer_left_by_its_client_is_cancelled_and_released(rig: Rig):
    rig.worker.hold = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        request = group.create_task(rig.client.post(CHAT, json=BODY))
        await rig.worker.started.wait_for(1)
        request.cancel()
    assert await rig.worker.cancelled.wait_for(1) == await rig.scheduler.released.wait_for(1)


async def test_a_request_waits_for_a_cold_start_and_shows_signs_of_life():
    async with gateway_rig(queue_comment_seconds=0.000001) as rig:
        progress = checkpoint_pb2.LoadProgress(loaded_bytes=1, total_bytes=2)
        rig.scheduler.before_grant = [
            scheduler_pb2.AcquireResponse(queued=scheduler_pb2.Queued(ahead=1)),
            scheduler_pb2.AcquireResponse(starting=scheduler_pb2.Starting(instance_id="i", progress=progress)),
        ]
        response = await rig.client.post(CHAT, json={**BODY, "stream": True})
        assert response.text.startswith(": kindling queued\n\n: kindling queued\n\ndata: ")
        assert response.text.endswith("data: [DONE]\n\n")
        assert await stream_text(rig) == REPLY


async def test_a_full_queue_is_too_many_requests(rig: Rig):
    rig.scheduler.refuse = lambda: ResourceExhaustedError(
        "the queue is full", reason="QUEUE_FULL", retry_after_seconds=7
    )
    response = await rig.client.post(CHAT, json={**BODY, "stream": True})
    assert response.status_code == 429
    assert response.headers["retry-after"] == "7"
    assert response.json()["error"] == {
        "message": "the queue is full",
        "type": "rate_limit_error",
        "param": None,
        "code": "queue_full",
    }


async def test_an_unavailable_model_says_when_to_try_again(rig: Rig):
    rig.scheduler.refuse = lambda: UnavailableError("no node has room", reason="NO_WORKERS")
    response = await rig.client.post(CHAT, json=BODY)
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"


@pytest.mark.parametrize("lost", [0, 4])
async def test_a_generation_goes_on_elsewhere_when_its_worker_is_lost(lost: int):
    async with gateway_rig(workers=2) as rig:
        rig.workers[0].fail_at = [(lost, UnavailableError("gone", reason="WORKER_DRAINING"))]
        assert await stream_text(rig) == REPLY
        assert len(rig.workers[1].requests) == 1
        assert list(rig.workers[1].requests[0].emitted_token_ids) == rig.worker.reply_ids[:lost]
        assert rig.workers[0].requests[0].sampling.seed == rig.workers[1].requests[0].sampling.seed
        assert rig.scheduler.avoided == [[], [f"{MODEL}-0"]]
        assert await rig.scheduler.released.wait_for(1) == rig.scheduler.acquired.items[:1]


async def test_an_instance_that_ended_before_the_call_is_asked_for_again():
    async with gateway_rig(workers=2) as rig:
        rig.workers[0].fail_at = [(0, NotFoundError("stopped", reason="INSTANCE_UNKNOWN"))]
        assert await stream_text(rig) == REPLY


async def test_a_worker_that_is_lost_again_and_again_is_an_error():
    async with gateway_rig(resume_attempts=2) as rig:
        rig.worker.fail_at = [(0, UnavailableError("gone", reason="WORKER_DRAINING"))] * 3
        response = await rig.client.post(CHAT, json=BODY)
        assert response.status_code == 503
        assert response.json()["error"]["code"] == "resumes_exhausted"
        assert len(rig.worker.requests) == 3
        assert await rig.scheduler.released.wait_for(1) == rig.scheduler.acquired.items[:1]


async def test_requests_wait_out_a_restart_of_the_scheduler(rig: Rig):
    address = rig.scheduler_server.address
    await rig.scheduler_server.__aexit__(None, None, None)
    async with asyncio.TaskGroup() as group:
        answers = [group.create_task(stream_text(rig)) for _ in range(3)]
        async with rig.scheduler.serve(address):
            texts = [await answer for answer in answers]
            assert texts == [REPLY] * 3


async def test_a_request_that_waits_for_a_place_outlives_its_scheduler(rig: Rig):
    address = rig.scheduler_server.address
    rig.scheduler.hold = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        answer = group.create_task(stream_text(rig))
        (first,) = await rig.scheduler.acquired.wait_for(1)
        await rig.scheduler_server.__aexit__(None, None, None)
        rig.scheduler.hold.set()
        async with rig.scheduler.serve(address):
            assert await answer == REPLY
    assert rig.scheduler.acquired.items == [first, first]


async def test_no_scheduler_is_an_error_after_a_while():
    async with gateway_rig(schedulers="127.0.0.1:9,127.0.0.1:19", scheduler_retry_seconds=0.2) as rig:
        response = await rig.client.post(CHAT, json=BODY)
        assert response.status_code == 503
        assert response.json()["error"]["code"] == "no_scheduler"
        health = await rig.client.get("/health")
        assert health.status_code == 503
        assert health.json()["reason"] == "NO_SCHEDULER"


class Standby(FakeScheduler):
    """A scheduler that does not lead and may know who does."""

    def __init__(self, leader_address: str) -> None:
        super().__init__([], {})
        self._leader_address = leader_address
        self.refuse = self._not_leader

    def _not_leader(self) -> FailedPreconditionError:
        metadata = {"leader_address": self._leader_address} if self._leader_address else {}
        return FailedPreconditionError("a standby", reason="NOT_LEADER", metadata=metadata)

    def _model(self, name: str) -> FakeModel:
        raise self._not_leader()


@pytest.mark.parametrize("hinted", [True, False])
async def test_a_standby_leads_to_the_leader(rig: Rig, hinted: bool):

    async with Standby(rig.scheduler_server.address if hinted else "").serve() as server:
        leader = rig.scheduler_server.address
        known = server.address if hinted else f"{server.address},{leader}"

        async with ChannelPool(retry=False) as channels, Background(1) as background:
            client = LeaderClient(channels, known.split(","), SystemClock(), retry_seconds=5)
            models = GrpcModels(client, background, SystemClock())
            assert await models.get(MODEL) == ModelInfo(MODEL, "blake3:00", 512, 1_700_000_000)
            assert [model.name for model in await models.list_all()] == [MODEL]


async def test_health_and_metrics(rig: Rig):
    health = await rig.client.get("/health")
    assert health.status_code == 200
    assert health.json() == {"status": "ok", "scheduler": {"id": "scheduler-0", "address": "here"}}
    metrics = await rig.client.get("/metrics")
    assert metrics.status_code == 200
    assert metrics.headers["content-type"].startswith("text/plain")
    assert "python_info" in metrics.text


async def test_the_request_id_is_the_trace_id():
    async with gateway_rig() as rig:
        response = await rig.client.post(CHAT, json=BODY)
        assert len(response.headers["x-request-id"]) == 32
        missing = await rig.client.get("/v1/models/none")
        assert missing.headers["x-request-id"] != response.headers["x-request-id"]


async def test_keys_are_required_when_set():
    async with gateway_rig(api_keys="alpha, beta") as rig:
        for key, status in (
            (None, 401),
            ("Bearer gamma", 401),
            ("alpha", 401),
            ("Bearer alpha", 200),
            ("bearer beta", 200),
        ):
            headers = {"authorization": key} if key else {}
            response = await rig.client.get("/v1/models", headers=headers)
            assert response.status_code == status
        assert (await rig.client.post(CHAT, json=BODY)).json()["error"]["code"] == "invalid_api_key"
        assert (await rig.client.get("/health")).status_code == 200


async def test_a_stop_waits_for_answers_under_way():
    """The gateway leaves its context only when the stream is whole."""
    async with gateway_rig(grace_seconds=10.0) as rig:
        rig.worker.hold = asyncio.Event()
        response: list[httpx.Response] = []

        async def ask() -> None:
            response.append(await rig.client.post(CHAT, json={**BODY, "stream": True}))

        async with asyncio.TaskGroup() as group:
            group.create_task(ask())
            await rig.scheduler.acquired.wait_for(1)
            rig.gateway.http.stop()
            rig.worker.hold.set()
        assert response[0].text.endswith("data: [DONE]\n\n")

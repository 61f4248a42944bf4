"""One tenant floods a model, another asks once, through every service as a process."""

import asyncio
from pathlib import Path

import grpc
import pytest

from kindling.v1 import generation_pb2, generation_pb2_grpc, inference_pb2, model_pb2
from support import api
from support.checkpoints import make_checkpoint
from support.cluster import RunningCluster

FLOOD = 8
LONG, SHORT = 400, 10
SECONDS = 60


class Asker:
    """Asks as tenants, and notes the order in which answers begin and end."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []
        self._stub = generation_pb2_grpc.GenerationServiceStub(channel)

    async def ask(self, name: str, tenant: str, max_tokens: int, is_in: asyncio.Event) -> None:
        """Ask to the end; ``is_in`` is set when the request waits or runs."""
        sampling = inference_pb2.SamplingParams(temperature=0, max_tokens=max_tokens, ignore_eos=True)
        prompt = generation_pb2.TokenIds(ids=range(20, 30))
        request = generation_pb2.CompleteRequest(model="shared", token_ids=prompt, sampling=sampling)
        tokens = 0
        async for event in self._stub.Complete(request, metadata=(("x-kindling-tenant", tenant),), timeout=SECONDS):
            is_in.set()
            if event.delta.token_ids and not tokens:
                self.begun.append(name)
            tokens += len(event.delta.token_ids)
        assert tokens == max_tokens
        self.ended.append(name)

    async def begin(self, tasks: asyncio.TaskGroup, name: str, tenant: str, max_tokens: int) -> None:
        """Return once the request is in."""
        is_in = asyncio.Event()
        tasks.create_task(self.ask(name, tenant, max_tokens, is_in))
        await is_in.wait()


@pytest.fixture
def address(cluster: RunningCluster, tmp_path: Path):
    settings = model_pb2.ModelSettings(concurrency_target=1, max_instances=1)
    api.deploy(cluster.grpc_address, "shared", make_checkpoint(tmp_path / "model"), settings)
    yield cluster.grpc_address
    api.delete(cluster.grpc_address, "shared")


async def test_a_quiet_tenant_is_answered_before_the_rest_of_a_flood(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel, asyncio.TaskGroup() as tasks:
        asker = Asker(channel)
        await asker.begin(tasks, "flood-0", "flood", LONG)
        for number in range(1, FLOOD):
            await asker.begin(tasks, f"flood-{number}", "flood", SHORT)
        assert not asker.ended, "the first is still running, so everybody else waits"
        await asker.begin(tasks, "quiet", "quiet", SHORT)
        assert not asker.ended
    assert asker.begun == ["flood-0", "quiet", *(f"flood-{number}" for number in range(1, FLOOD))]
    assert sorted(asker.ended) == sorted(asker.begun), "an end is seen after the place was given on"

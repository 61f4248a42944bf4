"""A tenant that wants more than its quotas allow, through every service as a process."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import grpc
import httpx
import pytest

from kindling.platform.errors import ResourceExhaustedError
from kindling.platform.rpc.channel import open_channel, remote_errors
from kindling.v1 import generation_pb2, generation_pb2_grpc, inference_pb2, model_pb2, tenant_pb2, tenant_pb2_grpc
from support import api
from support.checkpoints import make_checkpoint
from support.cluster import RunningCluster

Task = asyncio.Task[None]
ENDLESS, SHORT = 8000, 5  # the first is cancelled long before it ends
SECONDS = 60


def kindling(*words: str) -> str:
    """What the command prints, in a process of its own."""
    command = [sys.executable, "-m", "kindling.cli.main", *words]
    environment = os.environ | {"COLUMNS": "140"}
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=SECONDS, env=environment)
    assert result.returncode == 0, result.stderr
    return result.stdout


class Asker:
    """Asks as tenants, and notes the order in which answers begin."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.begun: list[str] = []
        self._stub = generation_pb2_grpc.GenerationServiceStub(channel)

    async def ask(self, tenant: str, name: str, max_tokens: int, is_in: asyncio.Event, waits: bool = False) -> None:
        """Ask to the end; ``is_in`` is set once tokens come, or with the first news if it ``waits``."""
        sampling = inference_pb2.SamplingParams(temperature=0, max_tokens=max_tokens, ignore_eos=True)
        prompt = generation_pb2.TokenIds(ids=range(20, 30))
        request = generation_pb2.CompleteRequest(model="bounded", token_ids=prompt, sampling=sampling)
        with remote_errors("gateway"):
            call = self._stub.Complete(request, metadata=(("x-kindling-tenant", tenant),), timeout=SECONDS)
            async for event in call:
                if event.delta.token_ids and name not in self.begun:
                    self.begun.append(name)
                if waits or name in self.begun:
                    is_in.set()

    async def begin(self, tasks: asyncio.TaskGroup, tenant: str, name: str, tokens: int, waits: bool = False) -> Task:
        """Return once the request runs, or waits if it is to."""
        is_in = asyncio.Event()
        task = tasks.create_task(self.ask(tenant, name, tokens, is_in, waits))
        await is_in.wait()
        return task


@pytest.fixture
def address(cluster: RunningCluster, tmp_path: Path):
    settings = model_pb2.ModelSettings(concurrency_target=8, max_instances=1)
    api.deploy(cluster.grpc_address, "bounded", make_checkpoint(tmp_path / "model", context_length=8192), settings)
    where = ("--address", cluster.grpc_address)
    assert "at most 1 generations" in kindling("tenant", "set", "acme", "--generations", "1", *where)
    assert "at most 1 requests" in kindling("tenant", "set", "acme", "--waiting", "1", *where)
    yield cluster.grpc_address
    assert "any more" in kindling("tenant", "remove", "acme", *where)
    assert "had none" in kindling("tenant", "remove", "acme", *where)
    api.delete(cluster.grpc_address, "bounded")


async def refused_over_http(cluster: RunningCluster) -> httpx.Response:
    body = {"model": "bounded", "prompt": "hello", "max_tokens": SHORT}
    async with httpx.AsyncClient(base_url=cluster.http_url, timeout=SECONDS) as client:
        return await client.post("/v1/completions", json=body, headers={"x-kindling-tenant": "acme"})


async def test_a_tenant_has_no_more_than_it_may_and_is_told_so(cluster: RunningCluster, address: str) -> None:
    async with open_channel(address, retry=False) as channel, asyncio.TaskGroup() as tasks:
        asker = Asker(channel)
        first = await asker.begin(tasks, "acme", "first", ENDLESS)
        await asker.begin(tasks, "acme", "second", SHORT, waits=True)
        with pytest.raises(ResourceExhaustedError) as refused:
            await asker.ask("acme", "third", SHORT, asyncio.Event())
        response = await refused_over_http(cluster)
        await asker.begin(tasks, "other", "quiet", SHORT)
        listed = await tenant_pb2_grpc.TenantServiceStub(channel).ListTenants(tenant_pb2.ListTenantsRequest())
        assert not first.done(), "all of this happened while the first was running"
        first.cancel()
    assert asker.begun == ["first", "quiet", "second"]
    assert (refused.value.reason, refused.value.metadata["limit"]) == ("TENANT_QUOTA_EXCEEDED", "1")
    assert refused.value.retry_after_seconds
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (429, "tenant_quota_exceeded")
    assert int(response.headers["retry-after"]) > 0
    assert "kindling tenant set" in error["message"]
    (acme,) = (one for one in listed.tenants if one.tenant == "acme")
    assert (acme.generations, acme.waiting, acme.quota.generations, acme.quota.waiting) == (1, 1, 1, 1)
    shown = await asyncio.to_thread(kindling, "tenant", "list", "--address", address)
    (row,) = (line.split() for line in shown.splitlines() if line.startswith("acme"))
    assert row == ["acme", "0", "1", "0", "1", str(acme.devices), "unbounded", "1", "its", "own"]

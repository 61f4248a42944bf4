"""Migrations and drains at the gateway's address: passed on to the leader, and to the next one."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from kindling.gateway.adapters.leader_client import LeaderClient
from kindling.gateway.domain.api_keys import ApiKeys
from kindling.gateway.forwarding import ClusterForwarder
from kindling.platform.clock import SystemClock
from kindling.platform.errors import AbortedError, FailedPreconditionError, KindlingError, UnauthenticatedError
from kindling.platform.rpc.channel import ChannelPool, open_channel, remote_errors
from kindling.platform.rpc.server import RpcServer
from kindling.v1 import cluster_pb2, cluster_pb2_grpc

SERVICE = "kindling.v1.ClusterService"
MOVING, DONE = cluster_pb2.MIGRATION_STAGE_MOVING, cluster_pb2.MIGRATION_STAGE_DONE
KEY = (("authorization", "Bearer alpha"),)


class Scheduler(cluster_pb2_grpc.ClusterServiceServicer):
    """Tells `stages` and `left`, one after the other, and fails then with `error` if there is one."""

    def __init__(self) -> None:
        self.stages: list[int] = [MOVING, DONE]
        self.left: list[int] = [2, 0]
        self.error: KindlingError | None = None
        self.requests: list[object] = []

    async def MigrateModel(self, request, context):
        self.requests.append(request)
        for stage in self.stages:
            yield cluster_pb2.MigrateModelResponse(migrations=[cluster_pb2.MigrationStatus(stage=stage)])
        if self.error is not None:
            raise self.error

    async def DrainNode(self, request, context):
        self.requests.append(request)
        for count in self.left:
            yield cluster_pb2.DrainNodeResponse(instances=count)
        if self.error is not None:
            raise self.error

    async def UndrainNode(self, request, context):
        self.requests.append(request)
        return cluster_pb2.UndrainNodeResponse()


@asynccontextmanager
async def gateway(*schedulers: Scheduler) -> AsyncIterator[cluster_pb2_grpc.ClusterServiceStub]:
    """A gateway's ClusterService before schedulers, of which each points at the next when it fails."""
    async with AsyncExitStack() as stack:
        addresses = [await stack.enter_async_context(_served(one)) for one in schedulers]
        for one, following in zip(schedulers, addresses[1:], strict=False):
            one.error = FailedPreconditionError("no", reason="NOT_LEADER", metadata={"leader_address": following})
        leader = LeaderClient(await stack.enter_async_context(ChannelPool()), addresses, SystemClock())
        address = await stack.enter_async_context(_served(ClusterForwarder(leader, ApiKeys(["alpha"]))))
        yield cluster_pb2_grpc.ClusterServiceStub(await stack.enter_async_context(open_channel(address)))


@asynccontextmanager
async def _served(servicer: cluster_pb2_grpc.ClusterServiceServicer) -> AsyncIterator[str]:
    server = RpcServer("127.0.0.1:0", grace_seconds=0)
    server.add(cluster_pb2_grpc.add_ClusterServiceServicer_to_server, servicer, SERVICE)
    async with server:
        yield server.address


async def told(call) -> list[list[int]]:
    with remote_errors("gateway"):
        return [[one.stage for one in answer.migrations] async for answer in call]


async def test_they_are_passed_on() -> None:
    scheduler = Scheduler()
    moving = cluster_pb2.MigrateModelRequest(model="m", to_worker_id="n/w", from_worker_id="n/v")
    drain, undrain = cluster_pb2.DrainNodeRequest(node_id="n"), cluster_pb2.UndrainNodeRequest(node_id="n")
    async with gateway(scheduler) as stub:
        assert await told(stub.MigrateModel(moving, metadata=KEY)) == [[MOVING], [DONE]]
        assert [left.instances async for left in stub.DrainNode(drain, metadata=KEY)] == [2, 0]
        await stub.UndrainNode(undrain, metadata=KEY)
    assert scheduler.requests == [moving, drain, undrain]


async def test_the_next_leader_is_asked_for_the_rest() -> None:
    first, second = Scheduler(), Scheduler()
    first.stages, first.left = [MOVING], [2, 1]
    async with gateway(first, second) as stub:
        assert await told(stub.MigrateModel(cluster_pb2.MigrateModelRequest(), metadata=KEY)) == [
            [MOVING],
            [MOVING],
            [DONE],
        ]
        drained = stub.DrainNode(cluster_pb2.DrainNodeRequest(), metadata=KEY)
        assert [left.instances async for left in drained][-1] == 0


async def test_why_one_failed_is_passed_on() -> None:
    scheduler = Scheduler()
    scheduler.stages = [MOVING]
    scheduler.error = AbortedError("1 stayed", reason="GENERATIONS_STAYED")
    async with gateway(scheduler) as stub:
        with pytest.raises(AbortedError, match="1 stayed"):
            await told(stub.MigrateModel(cluster_pb2.MigrateModelRequest(), metadata=KEY))


async def test_they_need_a_key() -> None:
    scheduler = Scheduler()
    async with gateway(scheduler) as stub:
        with pytest.raises(UnauthenticatedError):
            await told(stub.MigrateModel(cluster_pb2.MigrateModelRequest()))
        with pytest.raises(UnauthenticatedError), remote_errors("gateway"):
            _ = [left async for left in stub.DrainNode(cluster_pb2.DrainNodeRequest())]
        with pytest.raises(UnauthenticatedError), remote_errors("gateway"):
            await stub.UndrainNode(cluster_pb2.UndrainNodeRequest())
    assert scheduler.requests == []

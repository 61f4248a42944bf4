"""The real cluster: one node whose SSD is slow, with the models deployed."""

import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import grpc
from google.protobuf.duration_pb2 import Duration

from kindling.bench.predict.options import PredictOptions
from kindling.platform.rpc.channel import ChannelPool, remote_errors
from kindling.v1 import checkpoint_pb2, cluster_pb2, cluster_pb2_grpc, model_pb2, model_pb2_grpc

CONCURRENCY = 8
_CALL_SECONDS = 10.0
_DEPLOY_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Node:
    """What the cluster's one node has."""

    workers: int
    pool_bytes: int
    ssd_bytes_per_second: int


class Cluster(Protocol):
    """A cluster that runs."""

    @property
    def grpc_address(self) -> str:
        """Where the gateway serves gRPC, `host:port`."""
        ...


StartCluster = Callable[[Path, Node], AbstractAsyncContextManager[Cluster]]


@asynccontextmanager
async def deployed(
    cluster: Cluster, models: Mapping[str, Path], options: PredictOptions
) -> AsyncIterator[grpc.aio.Channel]:
    """Deploy the models; the channel leads to the gateway."""
    async with ChannelPool() as channels:
        channel = channels.get(cluster.grpc_address)
        for name, directory in models.items():
            await _deploy(channel, name, directory, options.keep_alive_seconds)
        yield channel


async def forget_dram(channel: grpc.aio.Channel, options: PredictOptions) -> None:
    """Leave every model on the SSD alone, with nothing running or parked."""
    for name in options.names:
        request = model_pb2.EvictModelRequest(request_id=uuid.uuid4().hex, name=name, keep=checkpoint_pb2.TIER_SSD)
        with remote_errors("the gateway"):
            await model_pb2_grpc.ModelServiceStub(channel).EvictModel(request, timeout=_DEPLOY_SECONDS)


async def status(channel: grpc.aio.Channel) -> cluster_pb2.GetClusterStatusResponse:
    """Return the cluster as its leader sees it, with what that has learned."""
    request = cluster_pb2.GetClusterStatusRequest(include_estimates=True)
    with remote_errors("the gateway"):
        return await cluster_pb2_grpc.ClusterServiceStub(channel).GetClusterStatus(request, timeout=_CALL_SECONDS)


async def _deploy(channel: grpc.aio.Channel, name: str, directory: Path, keep_alive_seconds: float) -> None:
    keep_alive = Duration()
    keep_alive.FromMilliseconds(round(1000 * keep_alive_seconds))
    settings = model_pb2.ModelSettings(concurrency_target=CONCURRENCY, keep_alive=keep_alive)
    request = model_pb2.DeployModelRequest(
        request_id=uuid.uuid4().hex, name=name, source_uri=directory.as_uri(), settings=settings
    )
    with remote_errors("the gateway"):
        async for _ in model_pb2_grpc.ModelServiceStub(channel).DeployModel(request, timeout=_DEPLOY_SECONDS):
            pass

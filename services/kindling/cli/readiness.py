"""When a local cluster is ready: asked again and again, with growing pauses, until the answer is yes."""

import asyncio
from collections.abc import Awaitable, Callable

from kindling.cli.client import connect
from kindling.cli.options import ClusterOptions
from kindling.cli.ports import HOST
from kindling.platform.clock import Clock
from kindling.platform.errors import KindlingError
from kindling.platform.etcd import EtcdClient
from kindling.v1 import cluster_pb2

_FIRST_PAUSE_SECONDS = 0.05
_MAX_PAUSE_SECONDS = 0.5
_ETCD_PREFIX = "/kindling/v1/"
# What lives on leases; those of a cluster that was killed may have seconds left.
_LIVENESS_KEYS = ("nodes/", "workers/", "scheduler/leader")


async def etcd_ready(endpoint: str, clock: Clock) -> None:
    """Return once etcd answers reads."""
    async with EtcdClient([endpoint]) as etcd:
        await until(lambda: _answers(etcd), clock)


async def forget_predecessors(endpoint: str) -> None:
    """Delete what a crashed cluster in the same data directory left of its processes; models and residency stay."""
    async with EtcdClient([endpoint]) as etcd:
        for key in _LIVENESS_KEYS:
            await etcd.delete_prefix(_ETCD_PREFIX + key)


async def cluster_ready(options: ClusterOptions, clock: Clock) -> None:
    """Return once the gateway serves HTTP and its status shows a leader, every node and every worker."""
    await until(lambda: _complete(options), clock)
    await until(lambda: _accepts(options.http_port), clock)


async def _answers(etcd: EtcdClient) -> bool:
    try:
        await etcd.get(_ETCD_PREFIX)
    except KindlingError:
        return False
    return True


async def _complete(options: ClusterOptions) -> bool:
    try:
        async with connect(f"{HOST}:{options.grpc_port}") as client:
            return _has_all(await client.status(), options)
    except KindlingError:
        return False


def _has_all(status: cluster_pb2.GetClusterStatusResponse, options: ClusterOptions) -> bool:
    workers = {worker.worker_id for node in status.nodes for worker in node.workers}
    nodes = {node.node_id for node in status.nodes}
    return bool(status.leader_id) and nodes >= set(options.node_ids) and workers >= set(options.worker_ids)


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


async def until(ask: Callable[[], Awaitable[bool]], clock: Clock) -> None:
    """Return once ``ask`` says yes; bounding the time is the caller's."""
    pause_seconds = _FIRST_PAUSE_SECONDS
    while not await ask():
        await clock.sleep(pause_seconds)
        pause_seconds = min(pause_seconds * 2, _MAX_PAUSE_SECONDS)

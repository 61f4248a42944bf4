"""The cluster that is measured: two workers that both run the model; how to look at them, and to disturb them."""

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

import psutil

from kindling.bench.migrate.cores import Cores
from kindling.bench.migrate.options import MODEL
from kindling.bench.migrate.stream import Client
from kindling.platform.backoff import Backoff
from kindling.platform.clock import SystemClock
from kindling.platform.errors import KindlingError
from kindling.platform.rpc.channel import ChannelPool, remote_errors
from kindling.v1 import (
    cluster_pb2,
    cluster_pb2_grpc,
    inference_pb2,
    inference_pb2_grpc,
    model_pb2,
    model_pb2_grpc,
)

WORKERS = ("node-0/worker-0", "node-1/worker-0")
MOVE_SECONDS = 120.0
_CALL_SECONDS = 10.0


class Process(Protocol):
    """A child of the cluster."""

    @property
    def pid(self) -> int:
        """The id of its present process."""
        ...


class Cluster(Protocol):
    """A cluster of two nodes with a worker each, whose children are started again when they die."""

    @property
    def grpc_address(self) -> str:
        """Where the gateway serves gRPC, `host:port`."""
        ...

    @property
    def names(self) -> list[str]:
        """The children's names; those of workers are their ids."""
        ...

    def child(self, name: str) -> Process:
        """Return a child by its name."""
        ...


StartCluster = Callable[[Path], AbstractAsyncContextManager[Cluster]]


class BenchCluster:
    """A cluster with an instance of the model on each worker. Made by :func:`deployed`."""

    def __init__(self, cluster: Cluster, channels: ChannelPool) -> None:
        self.client = Client(channels.get(cluster.grpc_address))
        self.cores = Cores(WORKERS)
        self._cluster = cluster
        self._channels = channels
        self._clock = SystemClock()
        self._instances: dict[str, str] = {}
        self._addresses: dict[str, str] = {}

    def other(self, worker: str) -> str:
        """The worker that is not this one."""
        return WORKERS[1 - WORKERS.index(worker)]

    def worker_at(self, address: str) -> str:
        """The worker that listens at an address."""
        return next(worker for worker, own in self._addresses.items() if own == address)

    def memory_bytes(self) -> dict[str, int]:
        """What each worker's process has in memory."""
        return {worker: psutil.Process(self._cluster.child(worker).pid).memory_info().rss for worker in WORKERS}

    async def wait_whole(self) -> None:
        """Return once both workers run an instance that is ready, pinned to their cores; who calls bounds it."""
        backoff = Backoff(self._clock)
        while not await self._is_whole():
            await backoff.pause()
        for name in self._cluster.names:
            pid = self._cluster.child(name).pid
            if name in WORKERS:
                self.cores.pin(pid, name)
            else:
                self.cores.pin_rest(pid)

    async def generations(self, worker: str) -> list[str]:
        """What a worker runs now."""
        return await anext(aiter(self._watch(worker)))

    async def wait_generations(self, worker: str, count: int) -> None:
        """Return once a worker runs so many generations."""
        async for generations in self._watch(worker):
            if len(generations) == count:
                return

    async def wait_idle(self) -> None:
        """Return once no worker runs anything."""
        for worker in WORKERS:
            await self.wait_generations(worker, 0)

    async def home(self) -> str:
        """The worker that runs the most."""
        counts = {worker: len(await self.generations(worker)) for worker in WORKERS}
        return max(WORKERS, key=counts.__getitem__)

    async def move(self, source: str) -> list[inference_pb2.MigrateInstanceResponse]:
        """Have a worker move everything that it runs to the other one; return what became of each generation."""
        target = self.other(source)
        request = inference_pb2.MigrateInstanceRequest(
            instance_id=self._instances[source],
            target_address=self._addresses[target],
            target_instance_id=self._instances[target],
        )
        with remote_errors(source):
            return [response async for response in self._stub(source).MigrateInstance(request, timeout=MOVE_SECONDS)]

    async def compute(self, worker: str, prompt: Sequence[int]) -> None:
        """Have a worker compute a prompt and one token after it."""
        request = inference_pb2.GenerateRequest(
            generation_id=uuid.uuid4().hex,
            instance_id=self._instances[worker],
            prompt_token_ids=prompt,
            sampling=inference_pb2.SamplingParams(max_tokens=1, ignore_eos=True),
        )
        with remote_errors(worker):
            async for _ in self._stub(worker).Generate(request, timeout=MOVE_SECONDS):
                pass

    def kill(self, worker: str) -> None:
        """SIGKILL a worker's process."""
        os.kill(self._cluster.child(worker).pid, signal.SIGKILL)

    async def _watch(self, worker: str) -> AsyncIterator[list[str]]:
        call = self._stub(worker).WatchWorker(inference_pb2.WatchWorkerRequest())
        try:
            with remote_errors(worker):
                async for view in call:
                    yield [name for one in view.instances if one.model == MODEL for name in one.generation_ids]
        finally:
            call.cancel()

    async def _is_whole(self) -> bool:
        channel = self._channels.get(self._cluster.grpc_address)
        try:
            with remote_errors("the gateway"):
                stub = cluster_pb2_grpc.ClusterServiceStub(channel)
                status = await stub.GetClusterStatus(cluster_pb2.GetClusterStatusRequest(), timeout=_CALL_SECONDS)
            ready = cluster_pb2.INSTANCE_STATE_READY
            self._instances = {one.worker_id: one.instance_id for one in status.instances if one.state == ready}
            self._addresses = {one.worker_id: one.address for node in status.nodes for one in node.workers}
            return all([await self._runs(worker, self._instances.get(worker)) for worker in WORKERS])
        except KindlingError:
            return False

    async def _runs(self, worker: str, instance_id: str | None) -> bool:
        """Whether the worker itself says so: the status is of a moment ago."""
        if instance_id is None or worker not in self._addresses:
            return False
        call = self._stub(worker).WatchWorker(inference_pb2.WatchWorkerRequest(), timeout=_CALL_SECONDS)
        try:
            with remote_errors(worker):
                view = await anext(aiter(call))
        finally:
            call.cancel()
        ready = cluster_pb2.INSTANCE_STATE_READY
        return any((one.instance_id, one.state) == (instance_id, ready) for one in view.instances)

    def _stub(self, worker: str) -> "inference_pb2_grpc.InferenceServiceAsyncStub":
        return inference_pb2_grpc.InferenceServiceStub(self._channels.get(self._addresses[worker]))


@asynccontextmanager
async def deployed(cluster: Cluster, model_directory: Path, start_seconds: float) -> AsyncIterator[BenchCluster]:
    """Deploy the model with an instance on each worker."""
    async with ChannelPool() as channels, asyncio.timeout(None) as bound:
        bound.reschedule(asyncio.get_running_loop().time() + start_seconds)
        await _deploy(channels, cluster.grpc_address, model_directory)
        bench = BenchCluster(cluster, channels)
        await bench.wait_whole()
        bound.reschedule(None)
        yield bench


async def _deploy(channels: ChannelPool, address: str, model_directory: Path) -> None:
    # Room for everything that is asked for at once, so that nothing waits.
    settings = model_pb2.ModelSettings(min_instances=2, max_instances=2, concurrency_target=256)
    request = model_pb2.DeployModelRequest(
        request_id=uuid.uuid4().hex, name=MODEL, source_uri=model_directory.as_uri(), settings=settings
    )
    with remote_errors("the gateway"):
        async for _ in model_pb2_grpc.ModelServiceStub(channels.get(address)).DeployModel(request):
            pass

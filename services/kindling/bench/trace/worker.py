"""A cluster of one worker that runs the model, asked without a gateway between."""

import asyncio
import statistics
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

import psutil

from kindling.bench.engine.workload import prompts_of
from kindling.bench.trace.options import MODEL, TraceOptions
from kindling.bench.trace.results import Pass
from kindling.platform.backoff import Backoff
from kindling.platform.clock import SystemClock
from kindling.platform.errors import InternalError
from kindling.platform.rpc.channel import ChannelPool, remote_errors
from kindling.v1 import cluster_pb2, cluster_pb2_grpc, inference_pb2, inference_pb2_grpc, model_pb2, model_pb2_grpc

WORKER = "node-0/worker-0"
_CALL_SECONDS = 10.0
_PASS_SECONDS = 120.0
_START_SECONDS = 120.0


class Process(Protocol):
    """A child of the cluster."""

    @property
    def pid(self) -> int:
        """The id of its present process."""
        ...


class Cluster(Protocol):
    """A cluster of one node with one worker."""

    @property
    def grpc_address(self) -> str:
        """Where the gateway serves gRPC, `host:port`."""
        ...

    def child(self, name: str) -> Process:
        """Return a child by its name."""
        ...


StartCluster = Callable[[Path, Mapping[str, str]], AbstractAsyncContextManager[Cluster]]
"""Starts a cluster in a directory with these environment variables."""


class BenchWorker:
    """The worker's own process and its one instance. Made by :func:`bench_worker`."""

    def __init__(self, pid: int, stub: "inference_pb2_grpc.InferenceServiceAsyncStub", instance_id: str) -> None:
        self._process = psutil.Process(pid)
        self._stub = stub
        self._instance_id = instance_id

    async def measure(self, options: TraceOptions, number: int) -> Pass:
        """Run the prompts of pass ``number`` at once.

        Raises:
            InternalError: TOKENS_MISSING.
        """
        cpu = self._cpu_seconds()
        prompts = prompts_of(options.streams, number)
        steps = await asyncio.gather(*(self._step_seconds(prompt, options.new_tokens) for prompt in prompts))
        return Pass(statistics.median(steps), (self._cpu_seconds() - cpu) / options.new_tokens)

    async def _step_seconds(self, prompt: Sequence[int], new_tokens: int) -> float:
        """Mean time between two tokens of one generation."""
        request = inference_pb2.GenerateRequest(
            generation_id=uuid.uuid4().hex,
            instance_id=self._instance_id,
            prompt_token_ids=prompt,
            sampling=inference_pb2.SamplingParams(max_tokens=new_tokens, ignore_eos=True),
        )
        times: list[float] = []
        with remote_errors(WORKER):
            async for response in self._stub.Generate(request, timeout=_PASS_SECONDS):
                times += [time.perf_counter()] * len(response.tokens.token_ids)
        if len(times) != new_tokens:
            raise InternalError(f"{len(times)} tokens came instead of {new_tokens}", reason="TOKENS_MISSING")
        return (times[-1] - times[0]) / (new_tokens - 1)

    def _cpu_seconds(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)


@asynccontextmanager
async def bench_worker(cluster: Cluster, model_directory: Path) -> AsyncIterator[BenchWorker]:
    """Deploy the model and wait until it runs."""
    async with ChannelPool() as channels:
        gateway = channels.get(cluster.grpc_address)
        settings = model_pb2.ModelSettings(min_instances=1, concurrency_target=256)
        request = model_pb2.DeployModelRequest(
            request_id=uuid.uuid4().hex, name=MODEL, source_uri=model_directory.as_uri(), settings=settings
        )
        async with asyncio.timeout(_START_SECONDS):
            with remote_errors("the gateway"):
                async for _ in model_pb2_grpc.ModelServiceStub(gateway).DeployModel(request):
                    pass
            address, instance_id = await _ready_instance(cluster_pb2_grpc.ClusterServiceStub(gateway))
        stub = inference_pb2_grpc.InferenceServiceStub(channels.get(address))
        yield BenchWorker(cluster.child(WORKER).pid, stub, instance_id)


async def _ready_instance(stub: "cluster_pb2_grpc.ClusterServiceAsyncStub") -> tuple[str, str]:
    """Return the worker's address and the id of its instance once that is ready; who calls bounds the wait."""
    backoff = Backoff(SystemClock())
    while True:
        with remote_errors("the gateway"):
            status = await stub.GetClusterStatus(cluster_pb2.GetClusterStatusRequest(), timeout=_CALL_SECONDS)
        ready = [one.instance_id for one in status.instances if one.state == cluster_pb2.INSTANCE_STATE_READY]
        addresses = [worker.address for node in status.nodes for worker in node.workers]
        if ready and addresses:
            return addresses[0], ready[0]
        await backoff.pause()

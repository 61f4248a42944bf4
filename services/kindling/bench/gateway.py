"""What the gateway itself costs: the same generations through it and directly at the worker, in turns.

The engine is the fake one, so that everything measured is Kindling's own. Both clients are as lean as a client can
be, since their cost counts too: raw sockets for HTTP, grpc.aio for the worker.
"""

import asyncio
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import orjson
from rich.console import Console
from rich.table import Table

from kindling.bench.http_client import HttpClient
from kindling.platform.errors import FailedPreconditionError
from kindling.platform.rpc.channel import open_channel
from kindling.v1 import cluster_pb2, cluster_pb2_grpc, inference_pb2, inference_pb2_grpc, model_pb2, model_pb2_grpc

MODEL = "bench"
PROMPT_TOKENS = [5, 6, 7, 8]
REQUESTS_PER_ROUND = 20
STREAM_TOKENS = 1500
CONCURRENT_TOKENS = 50
LIMITS = {"request_overhead_ms": 3.0, "token_overhead_us": 150.0, "concurrent_streams": 500.0}


@dataclass(frozen=True, slots=True)
class GatewayBenchmark:
    """Ratios to hold, the samples behind them, and the machine they were taken on."""

    ratios: dict[str, float]
    samples: dict[str, list[float]]
    machine: dict[str, str | int]

    @property
    def holds(self) -> bool:
        """Whether every ratio is within its limit."""
        return all(_holds(name, value) for name, value in self.ratios.items())


@dataclass(frozen=True, slots=True)
class Target:
    """The same instance by its two ways: through the gateway, and at its worker."""

    http_host: str
    http_port: int
    worker_address: str
    instance_id: str


async def find_target(http_url: str, grpc_address: str) -> Target:
    """Call MODEL once, so that an instance runs, and return the two ways to it.

    Raises:
        FailedPreconditionError: NO_INSTANCE.
    """
    host, port = http_url.removeprefix("http://").split(":")
    async with HttpClient(host, int(port)) as client:
        await _through_gateway(client, 1)
    async with open_channel(grpc_address) as channel:
        stub = cluster_pb2_grpc.ClusterServiceStub(channel)
        status = await stub.GetClusterStatus(cluster_pb2.GetClusterStatusRequest(), timeout=10)
    addresses = {worker.worker_id: worker.address for node in status.nodes for worker in node.workers}
    for instance in status.instances:
        if instance.model == MODEL and instance.worker_id in addresses:
            return Target(host, int(port), addresses[instance.worker_id], instance.instance_id)
    raise FailedPreconditionError(f"no instance of {MODEL!r} runs although it was called", reason="NO_INSTANCE")


async def measure(target: Target, *, rounds: int = 15, streams: int = 500) -> GatewayBenchmark:
    """Measure in interleaved rounds, so that a busy moment of the machine hits both ways alike."""
    async with open_channel(target.worker_address) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        async with HttpClient(target.http_host, target.http_port) as client:
            ways: dict[str, Callable[[], Awaitable[float]]] = {
                "request_gateway_ms": lambda: _requests(lambda: _through_gateway(client, 1)),
                "request_worker_ms": lambda: _requests(lambda: stream_at_worker(stub, target, 1)),
                "token_gateway_us": lambda: _per_token(lambda: _through_gateway(client, STREAM_TOKENS)),
                "token_worker_us": lambda: _per_token(lambda: stream_at_worker(stub, target, STREAM_TOKENS)),
            }
            for warm_up in ways.values():
                await warm_up()
            samples: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(rounds):
                for name, way in ways.items():
                    samples[name].append(await way())
    completed = await _concurrent(target, streams)
    return GatewayBenchmark(_ratios(samples, completed), samples, _machine())


class Cluster(Protocol):
    """A cluster whose workers run the fake engine."""

    @property
    def http_url(self) -> str:
        """Where the gateway serves HTTP."""
        ...

    @property
    def grpc_address(self) -> str:
        """Where the gateway serves gRPC, `host:port`."""
        ...


StartCluster = Callable[[Path], AbstractAsyncContextManager[Cluster]]


def run(start_cluster: StartCluster, json_path: Path | None = None) -> int:
    """Start a cluster in a directory of its own, measure, print a table; return 0 if every limit holds, else 1."""
    result = asyncio.run(_run(start_cluster))
    _print(result)
    if json_path is not None:
        json_path.write_bytes(orjson.dumps(asdict(result), option=orjson.OPT_INDENT_2))
    return 0 if result.holds else 1


async def _run(start_cluster: StartCluster) -> GatewayBenchmark:
    with tempfile.TemporaryDirectory(prefix="kindling-bench-") as name:
        model = Path(name) / "model"
        await asyncio.to_thread(make_sample, model)
        async with start_cluster(Path(name) / "cluster") as cluster:
            await deploy_sample(cluster.grpc_address, model.as_uri())
            target = await find_target(cluster.http_url, cluster.grpc_address)
            return await measure(target)


def make_sample(directory: Path) -> None:
    """Write a tiny model."""
    program = (
        "import sys; from pathlib import Path; from kindling.cli.sample import make_sample; "
        "make_sample(Path(sys.argv[1]), layers=1, hidden_size=64)"
    )
    # A process of its own: torch must not share this one with the clients.
    subprocess.run([sys.executable, "-c", program, str(directory)], check=True, capture_output=True)


async def deploy_sample(grpc_address: str, source_uri: str) -> None:
    """Deploy it as MODEL, with one instance that is always there."""
    settings = model_pb2.ModelSettings(min_instances=1, max_instances=1, concurrency_target=1024)
    settings.max_queued_requests = 1024
    request = model_pb2.DeployModelRequest(
        request_id=uuid.uuid4().hex, name=MODEL, source_uri=source_uri, settings=settings
    )
    async with open_channel(grpc_address) as channel:
        async for _ in model_pb2_grpc.ModelServiceStub(channel).DeployModel(request):
            pass


async def _through_gateway(client: HttpClient, tokens: int) -> None:
    await client.stream("/v1/completions", _body(tokens))


async def stream_at_worker(stub: "inference_pb2_grpc.InferenceServiceAsyncStub", target: Target, tokens: int) -> None:
    """Stream so many tokens right from the worker."""
    request = inference_pb2.GenerateRequest(
        generation_id=uuid.uuid4().hex,
        instance_id=target.instance_id,
        prompt_token_ids=PROMPT_TOKENS,
        sampling=inference_pb2.SamplingParams(max_tokens=tokens, ignore_eos=True),
    )
    async for _ in stub.Generate(request):
        pass


def _body(tokens: int) -> bytes:
    return orjson.dumps(
        {
            "model": MODEL,
            "prompt": PROMPT_TOKENS,
            "max_tokens": tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
        }
    )


async def _requests(request: Callable[[], Awaitable[None]]) -> float:
    """Return the median time of a few requests, in milliseconds."""
    return statistics.median([await _seconds(request) for _ in range(REQUESTS_PER_ROUND)]) * 1e3


async def _per_token(stream: Callable[[], Awaitable[None]]) -> float:
    """Return the time per token of a long stream, in microseconds."""
    return await _seconds(stream) / STREAM_TOKENS * 1e6


async def _seconds(work: Callable[[], Awaitable[None]]) -> float:
    start = time.perf_counter()
    await work()
    return time.perf_counter() - start


async def _concurrent(target: Target, streams: int) -> int:
    """Open ``streams`` at once and return how many ended as they should."""

    async def one() -> bool:
        try:
            async with HttpClient(target.http_host, target.http_port) as client:
                await client.stream("/v1/completions", _body(CONCURRENT_TOKENS))
        except (OSError, FailedPreconditionError):
            return False
        return True

    return sum(await asyncio.gather(*(one() for _ in range(streams))))


def _ratios(samples: dict[str, list[float]], completed: int) -> dict[str, float]:
    median = {name: statistics.median(values) for name, values in samples.items()}
    return {
        "request_overhead_ms": median["request_gateway_ms"] - median["request_worker_ms"],
        "token_overhead_us": median["token_gateway_us"] - median["token_worker_us"],
        "concurrent_streams": float(completed),
    }


def _machine() -> dict[str, str | int]:
    cores = len(os.sched_getaffinity(0))
    return {"system": platform.platform(), "python": platform.python_version(), "cores": cores}


def _holds(name: str, value: float) -> bool:
    return value >= LIMITS[name] if name == "concurrent_streams" else value <= LIMITS[name]


def _print(result: GatewayBenchmark) -> None:
    table = Table(title="What the gateway costs, with an engine that costs nothing")
    for column in ("measure", "measured", "limit", "holds"):
        table.add_column(column, justify="left" if column == "measure" else "right")
    for name, value in result.ratios.items():
        sign = "≥" if name == "concurrent_streams" else "≤"
        table.add_row(name, f"{value:.2f}", f"{sign} {LIMITS[name]:g}", "yes" if _holds(name, value) else "NO")
    for name, values in result.samples.items():
        table.add_row(name, f"{statistics.median(values):.2f}", _spread(values), "")
    Console().print(table)


def _spread(values: Sequence[float]) -> str:
    return f"{min(values):.2f}–{max(values):.2f}"

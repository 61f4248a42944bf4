"""What tracing costs a worker per decode step: processor time of two workers, of which one traces.

Both stream the same tokens, one a step, from an engine that computes nothing; what the one that traces needs more, all
its threads together, is put beside a decode step of the real engine with a model of 60 million parameters. Processor
time tells microseconds apart where a wall clock on a busy machine cannot.
"""

import asyncio
import os
import statistics
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import grpc
import orjson
import psutil

from kindling.bench.child import ask_child
from kindling.bench.console import begin
from kindling.bench.engine.ways import Way
from kindling.bench.engine.workload import SHAPE
from kindling.bench.gateway import Cluster, deploy_sample, find_target, make_sample, stream_at_worker
from kindling.bench.goals import Goal, goals_table, goals_values
from kindling.bench.machine import machine
from kindling.bench.model_child import make_model_apart
from kindling.platform.errors import FailedPreconditionError
from kindling.platform.rpc.channel import open_channel
from kindling.v1 import inference_pb2_grpc

GOALS: Final = (Goal("tracing_over_step", 0.02, at_least=False),)
_MARK: Final = "KINDLING_BENCH_TRACE"
_FAKE_STEP_SECONDS: Final = 0.001
StartCluster = Callable[[Path, Mapping[str, str]], AbstractAsyncContextManager[Cluster]]


@dataclass(frozen=True, slots=True)
class TraceOptions:
    """How often each worker streams how many tokens."""

    rounds: int = 10
    tokens: int = 2000


@dataclass(frozen=True, slots=True)
class TraceSamples:
    """Microseconds of processor time per token, a sample for each round, and seconds of a real decode step."""

    plain_us: list[float]
    traced_us: list[float]
    step_seconds: float

    @property
    def ratios(self) -> dict[str, float]:
        """What tracing adds to a step, over the step: of the median round, whose two halves ran one after the other."""
        added = statistics.median(traced - plain for plain, traced in zip(self.plain_us, self.traced_us, strict=True))
        return {"tracing_over_step": added * 1e-6 / self.step_seconds, "tracing_us_per_step": added}


def run(start_cluster: StartCluster, options: TraceOptions, json_path: Path | None = None) -> int:
    """Measure, print, and write the figures; returns 0 if the goal is reached, else 1."""
    from rich.console import Console

    say = begin()
    samples = asyncio.run(_measure(start_cluster, options, say))
    ratios = samples.ratios
    Console().print(goals_table(ratios, GOALS, ".4f"))
    Console().print(
        f"a token: {statistics.median(samples.plain_us):.0f} µs of processor time without tracing, "
        f"{statistics.median(samples.traced_us):.0f} µs with; a decode step: {samples.step_seconds * 1e3:.1f} ms"
    )
    if json_path is not None:
        found = {"ratios": ratios, "goals": goals_values(ratios, GOALS), "samples": asdict(samples)}
        json_path.write_bytes(orjson.dumps(found | {"machine": machine()}, option=orjson.OPT_INDENT_2))
    return 0 if all(goal.reached(ratios[goal.key]) for goal in GOALS) else 1


async def _measure(start_cluster: StartCluster, options: TraceOptions, say: Callable[[str], None]) -> TraceSamples:
    with tempfile.TemporaryDirectory(prefix="kindling-bench-") as name:
        place = Path(name)
        await asyncio.to_thread(make_sample, place / "sample")
        async with (
            _collector() as endpoint,
            start_cluster(place / "plain", _settings("plain")) as plain,
            start_cluster(place / "traced", _settings("traced", endpoint)) as traced,
        ):
            say("starting both clusters")
            plain_us, traced_us = await _in_turns(plain, traced, (place / "sample").as_uri(), options, say)
        say("a decode step of the real engine")
        step_seconds = await asyncio.to_thread(_step_seconds, place / "model")
    return TraceSamples(plain_us, traced_us, step_seconds)


def _settings(mark: str, endpoint: str = "") -> dict[str, str]:
    """A worker's surroundings; the mark is for finding its process."""
    steps = {"KINDLING_WORKER_FAKE_STEP_SECONDS": str(_FAKE_STEP_SECONDS), _MARK: mark}
    traced = {"KINDLING_TRACE_RING_SPANS": "2048", "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
    return steps | (traced if endpoint else {"KINDLING_TRACE_RING_SPANS": "0", "OTEL_EXPORTER_OTLP_ENDPOINT": ""})


async def _in_turns(
    plain: Cluster, traced: Cluster, source_uri: str, options: TraceOptions, say: Callable[[str], None]
) -> tuple[list[float], list[float]]:
    async with (
        _streaming(plain, source_uri, "plain") as plain_us,
        _streaming(traced, source_uri, "traced") as traced_us,
    ):
        found: list[tuple[float, float]] = []
        for number in range(options.rounds):
            say(f"round {number + 1} of {options.rounds}")
            if number % 2:
                second = await traced_us(options.tokens)
                found.append((await plain_us(options.tokens), second))
            else:
                first = await plain_us(options.tokens)
                found.append((first, await traced_us(options.tokens)))
    return [one for one, _ in found], [other for _, other in found]


@asynccontextmanager
async def _streaming(cluster: Cluster, source_uri: str, mark: str) -> AsyncIterator[Callable[[int], Awaitable[float]]]:
    """Yield what streams so many tokens and returns the worker's processor time per token, in microseconds."""
    await deploy_sample(cluster.grpc_address, source_uri)
    target = await find_target(cluster.http_url, cluster.grpc_address)
    worker = _worker(mark)
    async with open_channel(target.worker_address) as channel:
        stub = inference_pb2_grpc.InferenceServiceStub(channel)

        async def stream(tokens: int) -> float:
            before = processor_seconds(worker)
            await stream_at_worker(stub, target, tokens)
            return (processor_seconds(worker) - before) / tokens * 1e6

        await stream(200)
        yield stream


def _worker(mark: str) -> int:
    """Return the process id of the worker with a mark in its environment."""
    for process in psutil.Process().children(recursive=True):
        if "kindling.worker" in process.cmdline() and process.environ().get(_MARK) == mark:
            return process.pid
    raise FailedPreconditionError(f"no worker of the {mark} cluster runs", reason="NO_WORKER")


def processor_seconds(pid: int) -> float:
    """Return what all threads of a process have had of the processors so far, by the kernel's nanoseconds."""
    tasks = Path(f"/proc/{pid}/task")
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) * 1e-9


def _step_seconds(directory: Path) -> float:
    make_model_apart(directory, SHAPE, "bfloat16")
    request = {"way": Way.KINDLING, "model": str(directory), "loads": [1], "new_tokens": 64}
    threads = len(os.sched_getaffinity(0))
    (rate,) = ask_child("kindling.bench.engine.way_child", request | {"threads": threads})["rates"]
    return 1 / float(rate)


class _Sink(grpc.GenericRpcHandler):
    """A collector that takes everything and keeps nothing; an empty message is each signal's answer."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes]":
        """Answer any call."""
        del handler_call_details
        return grpc.unary_unary_rpc_method_handler(self._take)

    async def _take(self, _request: bytes, _context: object) -> bytes:
        return b""


@asynccontextmanager
async def _collector() -> AsyncIterator[str]:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_Sink(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await server.stop(None)

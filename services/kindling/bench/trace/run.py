"""The whole run: make the model, start both workers several times, measure them in turns."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from kindling.bench.model_child import make_model_apart
from kindling.bench.trace.collector import running_collector
from kindling.bench.trace.options import TraceOptions
from kindling.bench.trace.results import Pair
from kindling.bench.trace.worker import BenchWorker, StartCluster, bench_worker
from kindling.platform.errors import FailedPreconditionError

Say = Callable[[str], None]
PLAIN: Final = {"OTEL_TRACES_EXPORTER": "none", "KINDLING_TRACE_RING_SPANS": "0"}
TRACED: Final = {
    "OTEL_TRACES_EXPORTER": "otlp",
    "OTEL_TRACES_SAMPLER": "always_on",
    "KINDLING_TRACE_RING_SPANS": "2048",
}


def measure(start_cluster: StartCluster, options: TraceOptions, say: Say) -> list[Pair]:
    """Return what was measured.

    Raises:
        FailedPreconditionError: MEASUREMENT_FAILED, if the model cannot be made; NOTHING_TRACED.
        KindlingError: what keeps a cluster from starting, or a worker from answering.
    """
    with tempfile.TemporaryDirectory(prefix="kindling-bench-") as name:
        say("making the model")
        model = Path(name) / "model"
        make_model_apart(model, options.shape, "bfloat16")
        pairs: list[Pair] = []
        for number in range(options.starts):
            say(f"start {number + 1} of {options.starts}")
            pairs += asyncio.run(_measure_start(start_cluster, model, Path(name) / str(number), options))
        return pairs


async def _measure_start(start_cluster: StartCluster, model: Path, place: Path, options: TraceOptions) -> list[Pair]:
    async with running_collector() as collector:
        async with _both(start_cluster, model, place, collector.address) as (plain, traced):
            for worker in (plain, traced):
                await worker.measure(options, 0)  # what comes first is slower
            pairs = [await _pair(plain, traced, options, number) for number in range(1, options.rounds + 1)]
        if not collector.trace_exports:
            raise FailedPreconditionError("no span came to the collector", reason="NOTHING_TRACED")
    return pairs


async def _pair(plain: BenchWorker, traced: BenchWorker, options: TraceOptions, number: int) -> Pair:
    """Measure both, the other one first in every other round."""
    if number % 2:
        before = await plain.measure(options, number)
        return Pair(before, await traced.measure(options, number))
    after = await traced.measure(options, number)
    return Pair(await plain.measure(options, number), after)


@asynccontextmanager
async def _both(
    start_cluster: StartCluster, model: Path, place: Path, collector: str
) -> AsyncIterator[tuple[BenchWorker, BenchWorker]]:
    """Both workers at once, so that whatever else the machine does hits them alike; metrics and logs go out of both."""
    endpoints = {f"OTEL_EXPORTER_OTLP{signal}_ENDPOINT": collector for signal in ("", "_TRACES", "_METRICS", "_LOGS")}
    async with AsyncExitStack() as stack:
        workers = []
        for name, changes in (("plain", PLAIN), ("traced", TRACED)):
            environment = endpoints | {"OTEL_SDK_DISABLED": "false"} | changes
            cluster = await stack.enter_async_context(start_cluster(place / name, environment))
            workers.append(await stack.enter_async_context(bench_worker(cluster, model)))
        yield workers[0], workers[1]

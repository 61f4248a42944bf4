"""The whole run: make the model, start both workers several times, measure them in turns."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
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
CHANGES: Final = {
    "plain": {"OTEL_TRACES_EXPORTER": "none", "KINDLING_TRACE_RING_SPANS": "0"},
    "traced": {
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_TRACES_SAMPLER": "always_on",
        "KINDLING_TRACE_RING_SPANS": "2048",
    },
}
"""The environment in which the two workers differ."""


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
            place, traced_first = Path(name) / str(number), bool(number % 2)
            pairs += asyncio.run(_measure_start(start_cluster, model, place, options, traced_first=traced_first))
        return pairs


async def _measure_start(
    start_cluster: StartCluster, model: Path, place: Path, options: TraceOptions, *, traced_first: bool
) -> list[Pair]:
    order = ("traced", "plain") if traced_first else ("plain", "traced")
    async with running_collector() as collector:
        async with _workers(start_cluster, model, place, collector.address, order) as workers:
            plain, traced = workers["plain"], workers["traced"]
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
async def _workers(
    start_cluster: StartCluster, model: Path, place: Path, collector: str, order: Sequence[str]
) -> AsyncIterator[dict[str, BenchWorker]]:
    """Both workers at once, so that whatever else the machine does hits them alike; metrics and logs go out of both."""
    endpoints = {f"OTEL_EXPORTER_OTLP{signal}_ENDPOINT": collector for signal in ("", "_TRACES", "_METRICS", "_LOGS")}
    workers: dict[str, BenchWorker] = {}
    async with AsyncExitStack() as stack:
        for name in order:
            environment = endpoints | {"OTEL_SDK_DISABLED": "false"} | CHANGES[name]
            cluster = await stack.enter_async_context(start_cluster(place / name, environment))
            workers[name] = await stack.enter_async_context(bench_worker(cluster, model))
        yield workers

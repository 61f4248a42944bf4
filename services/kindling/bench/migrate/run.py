"""The whole run: make the model, start a cluster, measure part by part."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from kindling.bench.migrate.bench_cluster import BenchCluster, StartCluster, deployed
from kindling.bench.migrate.bystanders import measure_bystanders
from kindling.bench.migrate.divergence import PART, measure_divergence
from kindling.bench.migrate.failovers import measure_failovers
from kindling.bench.migrate.load import measure_load
from kindling.bench.migrate.memory import short_generations, warm_up
from kindling.bench.migrate.options import MigrateOptions
from kindling.bench.migrate.results import Results
from kindling.bench.migrate.singles import measure_singles
from kindling.bench.model_child import make_model_apart
from kindling.platform.errors import KindlingError

Say = Callable[[str], None]
START_SECONDS: Final = 120.0
PART_SECONDS: Final = 900.0


def measure(start_cluster: StartCluster, options: MigrateOptions, say: Say) -> Results:
    """Return everything that was measured; a part that fails is noted and the rest goes on.

    Raises:
        FailedPreconditionError: MEASUREMENT_FAILED, if the model cannot be made.
        KindlingError: what keeps the cluster from starting.
    """
    with tempfile.TemporaryDirectory(prefix="kindling-bench-") as name:
        say("making the model")
        model = Path(name) / "model"
        # In float32 what is computed anew elsewhere is the same to the last token.
        make_model_apart(model, options.shape, "float32")
        results = Results()
        say(PART)
        measure_divergence(Path(name), options, results)
        asyncio.run(_measure(start_cluster, Path(name), options, results, say))
        return results


async def _measure(
    start_cluster: StartCluster, place: Path, options: MigrateOptions, results: Results, say: Say
) -> None:
    say("starting the cluster")
    async with (
        start_cluster(place / "cluster") as cluster,
        deployed(cluster, place / "model", START_SECONDS) as bench,
    ):
        results.notes.append(bench.cores.note)
        parts: dict[str, Callable[[], Awaitable[None]]] = {
            "streams under load, and memory": lambda: _load_and_memory(bench, options, results),
            "one stream at a time": lambda: measure_singles(bench, options, results),
            "bystanders": lambda: measure_bystanders(bench, options, results),
            "failovers": lambda: measure_failovers(bench, options, results),
        }
        for part, work in parts.items():
            say(part)
            await _attempt(part, work, results)


async def _load_and_memory(cluster: BenchCluster, options: MigrateOptions, results: Results) -> None:
    await warm_up(cluster, options)
    before = cluster.memory_bytes()
    await measure_load(cluster, options, results)
    await short_generations(cluster, options, options.generations)
    results.memory_before, results.memory_after = before, cluster.memory_bytes()


async def _attempt(part: str, work: Callable[[], Awaitable[None]], results: Results) -> None:
    try:
        async with asyncio.timeout(PART_SECONDS):
            await work()
    except KindlingError as error:
        results.fail(part, f"{error.reason}: {error.message}")
    except TimeoutError:
        results.fail(part, f"it took longer than {PART_SECONDS:g} s")

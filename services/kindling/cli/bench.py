"""`kindling bench`: what Kindling itself costs, measured on this machine."""

import tempfile
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import typer

from kindling.bench.engine.options import EngineOptions
from kindling.bench.load.options import LoadOptions, Part
from kindling.bench.predict.bench_cluster import Node
from kindling.cli.cluster import LocalCluster, local_cluster
from kindling.cli.options import ClusterOptions, EngineKind
from kindling.cli.parameters import JsonPath, check_output_file
from kindling.cli.ports import free_ports
from kindling.cli.values import parse_bytes, parse_counts

app = typer.Typer(no_args_is_help=True, help="Measure what Kindling itself costs on this machine.")


@app.command()
def gateway(
    json: JsonPath = None,
) -> None:
    """Measure the gateway's own cost per request and per token, with an engine that costs nothing."""
    from kindling.bench.gateway import run

    raise typer.Exit(run(_fake_cluster, json))


@app.command()
def trace(
    json: JsonPath = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often everything is measured, in turns.")] = 10,
    tokens: Annotated[int, typer.Option(min=100, help="Tokens that a worker streams in a round.")] = 2000,
) -> None:
    """Measure what tracing costs a worker per decode step, spans kept and exported."""
    from kindling.bench.trace import TraceOptions, run

    raise typer.Exit(run(_fake_cluster, TraceOptions(rounds, tokens), json))


@app.command()
def load(
    size: Annotated[str, typer.Option(help="Size of the checkpoint to load, in bf16.")] = "4GiB",
    json: JsonPath = None,
    png: Annotated[
        Path | None, typer.Option("--png", metavar="PATH", callback=check_output_file, help="Draw a bar chart there.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often everything is measured, in turns.")] = 5,
    directory: Annotated[
        Path | None,
        typer.Option(
            "--dir",
            metavar="DIR",
            exists=True,
            file_okay=False,
            writable=True,
            help="Make the checkpoints below this directory; must be on the SSD.",
        ),
    ] = None,
    only: Annotated[
        list[Part] | None, typer.Option(help="Measure this part alone; may be given several times.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the checkpoints on the disk.")] = False,
) -> None:
    """Measure how fast a checkpoint loads from each tier, beside other loaders and the limits of the hardware.

    Takes up to eight times SIZE of disk and, as root, drops the page cache and
    borrows huge pages for as long as it runs. Install the other loaders with the
    extra `bench`; those that are missing are listed.
    """
    from kindling.bench.load.command import run

    size_bytes = parse_bytes(size)
    place = Path(tempfile.mkdtemp(prefix="kindling-bench-", dir=directory))
    run(LoadOptions(size_bytes, rounds, place, frozenset(only or Part), keep), json, png)


@app.command()
def engine(
    json: JsonPath = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often everything is measured, in turns.")] = 3,
    concurrent: Annotated[
        str, typer.Option(metavar="N,…", help="Requests at once; each number is measured.")
    ] = "1,8,32",
) -> None:
    """Measure how many tokens per second the engine decodes, beside transformers' own ways of generating."""
    from kindling.bench.engine.command import run

    run(EngineOptions(rounds, parse_counts(concurrent)), json)


@app.command()
def migrate(
    json: JsonPath = None,
    png: Annotated[
        Path | None,
        typer.Option("--png", metavar="PATH", callback=check_output_file, help="Draw a moved stream there."),
    ] = None,
    migrations: Annotated[int, typer.Option(min=1, help="Generations to move under load.")] = 100,
    prompt_lengths: Annotated[
        str, typer.Option(metavar="N,…", help="Prompts of the streams that move alone, in tokens; each is measured.")
    ] = "64,256,1024,4096",
) -> None:
    """Measure what a reader notices when a running generation moves to another worker, or its worker is killed.

    Starts a cluster of its own with two workers, kills them several times, and
    compares every token that came with an undisturbed run. Takes about ten
    minutes.
    """
    from kindling.bench.migrate.command import run
    from kindling.bench.migrate.options import MigrateOptions

    options = MigrateOptions(migrations=migrations, prompt_lengths=parse_counts(prompt_lengths))
    raise typer.Exit(run(two_workers, options, json, png))


@app.command()
def place(
    json: JsonPath = None,
    nodes: Annotated[int, typer.Option(min=4, help="Nodes of the cluster.")] = 1_000,
    workers: Annotated[int, typer.Option(min=1, help="Workers of each node, with one slot each.")] = 8,
    models: Annotated[
        int | None, typer.Option(min=1, help="Models deployed, more than workers; 1.25 for each if not given.")
    ] = None,
    residency: Annotated[
        int | None, typer.Option(min=0, help="Checkpoints that nodes hold; ten for each model if not given.")
    ] = None,
    steps: Annotated[int, typer.Option(min=100, help="Events in the cluster.")] = 40_000,
) -> None:
    """Measure how many decisions per second the scheduler makes, and how their cost grows with the cluster.

    The cluster is simulated; the planner, and all that it looks at, is the one
    that the scheduler runs. Half and a quarter of the cluster are measured too.
    """
    from kindling.bench.place.command import run
    from kindling.bench.place.options import PlaceOptions, Size

    deployed = models or nodes * workers * 5 // 4
    run(PlaceOptions(Size(nodes, workers, deployed, 10 * deployed if residency is None else residency), steps), json)


@app.command()
def predict(
    json: JsonPath = None,
    models: Annotated[int, typer.Option(min=2, max=64, help="Models deployed, all of one size.")] = 6,
    rate: Annotated[float, typer.Option(help="Requests per second over all models.")] = 1.0,
    duration: Annotated[float, typer.Option(help="Seconds of requests.")] = 90.0,
    cv: Annotated[float, typer.Option(help="Coefficient of variation of the gaps between a model's requests.")] = 4.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the requests; with --seeds, the first one.")] = 1,
    seeds: Annotated[int, typer.Option(min=1, help="How many workloads are drawn, each with the next seed.")] = 1,
) -> None:
    """Measure how well startup times are foretold: by the simulator, from the same requests, and by the scheduler.

    Starts a cluster of its own with two workers and a slow SSD, and calibrates
    the simulator with it: `kindling simulate --measured` takes machine and model
    from the JSON. Takes two to three minutes for each seed.
    """
    from kindling.bench.predict.command import run
    from kindling.bench.predict.options import PredictOptions

    drawn = tuple(range(seed, seed + seeds))
    run(slow_node, PredictOptions(models=models, rate=rate, duration_seconds=duration, cv=cv, seeds=drawn), json)


def slow_node(data_dir: Path, node: Node) -> AbstractAsyncContextManager[LocalCluster]:
    """A cluster of one node whose SSD reads no faster than it is told to, and where nothing is prefetched."""
    from kindling.bench.predict.options import CHUNK_BYTES

    http_port, grpc_port = free_ports(2)
    settings = {
        "KINDLING_WORKER_THREADS": "1",
        "KINDLING_WORKER_KV_CACHE_BYTES": str(32 * 2**20),
        "KINDLING_STORAGE_CHUNK_BYTES": str(CHUNK_BYTES),
        "KINDLING_STORAGE_SSD_READ_LIMIT": str(node.ssd_bytes_per_second),
        "KINDLING_STORAGE_VERIFY_AT_START": "false",
        "KINDLING_SCHEDULER_PREFETCH": "false",
    }
    options = ClusterOptions(
        data_dir=data_dir,
        workers_per_node=node.workers,
        http_port=http_port,
        grpc_port=grpc_port,
        dram_pool_bytes=node.pool_bytes,
        log_level="WARNING",
        extra_env=tuple(settings.items()),
    )
    return local_cluster(options)


def two_workers(data_dir: Path) -> AbstractAsyncContextManager[LocalCluster]:
    """A cluster of two nodes with a worker each, which computes with one thread."""
    http_port, grpc_port = free_ports(2)
    options = ClusterOptions(
        data_dir=data_dir,
        nodes=2,
        http_port=http_port,
        grpc_port=grpc_port,
        dram_pool_bytes=512 * 2**20,
        log_level="WARNING",
        extra_env=(("KINDLING_WORKER_THREADS", "1"),),
    )
    return local_cluster(options)


def _fake_cluster(
    data_dir: Path, env: Mapping[str, str] = MappingProxyType({})
) -> AbstractAsyncContextManager[LocalCluster]:
    http_port, grpc_port = free_ports(2)
    options = ClusterOptions(
        data_dir=data_dir,
        http_port=http_port,
        grpc_port=grpc_port,
        engine=EngineKind.FAKE,
        dram_pool_bytes=64 * 2**20,
        log_level="WARNING",
        extra_env=tuple(env.items()),
    )
    return local_cluster(options)

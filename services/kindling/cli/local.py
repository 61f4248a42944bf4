"""`kindling up` and `kindling down`: a cluster on this machine."""

import asyncio
from typing import Annotated

import psutil
import typer
from rich.markup import escape

from kindling.cli.cluster import LocalCluster, local_cluster
from kindling.cli.console import err, out
from kindling.cli.detach import detached_up, report_ready
from kindling.cli.options import DEFAULT_GRPC_PORT, DEFAULT_HTTP_PORT, ClusterOptions, EngineKind
from kindling.cli.parameters import DEFAULT_DATA_DIR, DataDir
from kindling.cli.signals import cancelled_by_signals
from kindling.cli.state_file import read_state
from kindling.cli.values import format_bytes, parse_bytes
from kindling.platform.errors import DeadlineExceededError
from kindling.platform.logging import configure_logging


def up(
    nodes: Annotated[int, typer.Option(min=1, max=64, help="Nodes: storage managers with workers of their own.")] = 1,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Workers on each node.")] = 1,
    dram_pool: Annotated[
        str,
        typer.Option(metavar="SIZE", help="DRAM tier of each node, such as 4GiB. Else a share of free memory."),
    ] = "",
    data_dir: DataDir = DEFAULT_DATA_DIR,
    http_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Where the OpenAI API is served.")
    ] = DEFAULT_HTTP_PORT,
    grpc_port: Annotated[int, typer.Option(min=1, max=65535, help="Where gRPC is served.")] = DEFAULT_GRPC_PORT,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when the cluster is ready; stop it with down.")
    ] = False,
    engine: Annotated[EngineKind, typer.Option(hidden=True)] = EngineKind.TRANSFORMERS,
    ready_fd: Annotated[int, typer.Option(hidden=True)] = -1,
) -> None:
    """Run a cluster on this machine until Ctrl-C, which drains and stops all of it."""
    options = ClusterOptions(
        data_dir=data_dir.expanduser().absolute(),
        nodes=nodes,
        workers_per_node=workers,
        dram_pool_bytes=parse_bytes(dram_pool) if dram_pool else 0,
        http_port=http_port,
        grpc_port=grpc_port,
        engine=engine,
    )
    if detach:
        asyncio.run(detached_up(options))
    else:
        asyncio.run(_run(options, ready_fd))


def down(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait for it to drain and stop.")] = 60.0,
) -> None:
    """Stop the cluster that runs on a data directory; models stay there for the next `kindling up`."""
    data_dir = data_dir.expanduser().absolute()
    state = read_state(data_dir)
    process = state.process() if state else None
    if process is None:
        out.print(f"no cluster runs on {escape(str(data_dir))}", soft_wrap=True)
        return
    with err.status("draining and stopping"):
        _stop(process, timeout)
    out.print("stopped")


def _stop(process: psutil.Process, timeout_seconds: float) -> None:
    try:
        process.terminate()
        process.wait(timeout_seconds)
    except psutil.NoSuchProcess:
        return
    except psutil.TimeoutExpired:
        raise DeadlineExceededError(
            f"the cluster (process {process.pid}) did not stop within {timeout_seconds:g} s; "
            f"wait longer with --timeout, or end it at once with `kill -9 {process.pid}`: no child outlives it",
            reason="STILL_RUNNING",
            metadata={"pid": str(process.pid)},
        ) from None


async def _run(options: ClusterOptions, ready_fd: int) -> None:
    configure_logging("kindling-up", "ERROR")
    what = f"starting {options.nodes} node(s) with {options.workers_per_node} worker(s) each"
    try:
        with cancelled_by_signals(), err.status(what) as starting:
            async with local_cluster(options, notify=_notify) as cluster:
                starting.stop()
                _announce(cluster)
                report_ready(ready_fd)
                await _until_cancelled()
    except asyncio.CancelledError:
        err.print("stopped")


async def _until_cancelled() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        err.print("draining and stopping")


def _announce(cluster: LocalCluster) -> None:
    options = cluster.options
    out.print(
        f"[bold green]ready[/]: {len(options.node_ids)} node(s), {len(options.worker_ids)} worker(s), "
        f"{format_bytes(options.pool_bytes)} of DRAM each node"
    )
    out.print(f"  OpenAI API  {cluster.http_url}/v1")
    out.print(f"  gRPC        {cluster.grpc_address}")
    out.print(f"  data, logs  {escape(str(options.data_dir))}", soft_wrap=True)
    if options.grpc_port != DEFAULT_GRPC_PORT:
        out.print(f"in other terminals: [bold]export KINDLING_ADDRESS={cluster.grpc_address}[/]", soft_wrap=True)
    where = "" if options.data_dir == DEFAULT_DATA_DIR.expanduser() else f" --data-dir {escape(str(options.data_dir))}"
    out.print(
        f"next: [bold]kindling deploy NAME --source DIR[/]; Ctrl-C here, or [bold]kindling down{where}[/], stops it",
        soft_wrap=True,
    )


def _notify(line: str) -> None:
    err.print(escape(line), soft_wrap=True)

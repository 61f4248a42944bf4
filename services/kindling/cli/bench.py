"""`kindling bench`: what Kindling itself costs, measured on this machine."""

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Annotated

import typer

from kindling.cli.cluster import LocalCluster, local_cluster
from kindling.cli.options import ClusterOptions, EngineKind
from kindling.cli.ports import free_ports

app = typer.Typer(no_args_is_help=True, help="Measure what Kindling itself costs on this machine.")


@app.callback()
def bench() -> None:
    """Keep `gateway` a subcommand although it is the only one."""


@app.command()
def gateway(
    json: Annotated[Path | None, typer.Option("--json", metavar="PATH", help="Write the figures there too.")] = None,
) -> None:
    """Measure the gateway's own cost per request and per token, with an engine that costs nothing."""
    from kindling.bench.gateway import run

    raise typer.Exit(run(_fake_cluster, json))


def _fake_cluster(data_dir: Path) -> AbstractAsyncContextManager[LocalCluster]:
    http_port, grpc_port = free_ports(2)
    options = ClusterOptions(
        data_dir=data_dir,
        http_port=http_port,
        grpc_port=grpc_port,
        engine=EngineKind.FAKE,
        dram_pool_bytes=64 * 2**20,
        log_level="WARNING",
    )
    return local_cluster(options)

"""`kindling bench`: what Kindling itself costs, measured on this machine."""

from pathlib import Path
from typing import Annotated

import typer

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

    raise typer.Exit(run(json))

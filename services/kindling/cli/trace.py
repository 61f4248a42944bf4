"""`kindling trace`: what one request did, everywhere in the cluster."""

import asyncio
from io import StringIO
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from kindling.cli.client import connect
from kindling.cli.console import out
from kindling.cli.parameters import DEFAULT_ADDRESS, Address
from kindling.cli.span_tree import render_trace
from kindling.platform.errors import InvalidArgumentError
from kindling.v1 import cluster_pb2

_PICTURE_COLUMNS = 190


def trace(
    request_id: Annotated[
        str,
        typer.Argument(metavar="REQUEST_ID", help="An answer's id, or its header x-request-id.", show_default=False),
    ],
    address: Address = DEFAULT_ADDRESS,
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw it into a picture, too.")] = None,
) -> None:
    """Draw a request's spans over all services, from what their processes keep; no collector is needed."""
    seen = asyncio.run(_trace(address, request_id))
    out.print(render_trace(seen, out.width))
    if svg is not None:
        _draw(seen, svg)


async def _trace(address: str, request_id: str) -> cluster_pb2.GetTraceResponse:
    async with connect(address) as client:
        return await client.trace(request_id)


def _draw(seen: cluster_pb2.GetTraceResponse, path: Path) -> None:
    console = Console(record=True, width=_PICTURE_COLUMNS, file=StringIO(), force_terminal=True)
    console.print(render_trace(seen, console.width))
    try:
        console.save_svg(str(path), title="kindling trace")
    except OSError as error:
        raise InvalidArgumentError(f"cannot write {path}: {error.strerror}", reason="FILE_NOT_WRITABLE") from error

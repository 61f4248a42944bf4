"""`kindling deploy`, `models`, `delete`, `evict`: what can be called, and where its weights may stay."""

import asyncio
import enum
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.duration_pb2 import Duration
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from kindling.cli.client import ClusterClient, connect, new_request_id
from kindling.cli.console import ExitCode, err, out
from kindling.cli.parameters import DEFAULT_ADDRESS, Address, ModelName
from kindling.cli.values import format_bytes, format_seconds, parse_seconds
from kindling.platform.errors import InvalidArgumentError
from kindling.v1 import checkpoint_pb2, model_pb2

_URI = re.compile(r"[a-z][a-z0-9]+://")
_MOST = 1_000_000
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class KeptTier(enum.StrEnum):
    """The fastest tier that may keep a model's chunks."""

    DRAM = "dram"
    SSD = "ssd"
    REMOTE = "remote"

    @property
    def tier(self) -> "checkpoint_pb2.Tier.ValueType":
        """The tier on the wire."""
        return checkpoint_pb2.Tier.Value(f"TIER_{self.name}")


def deploy(
    name: ModelName,
    source: Annotated[
        str,
        typer.Option(
            help="The model: a Hugging Face directory (config.json, safetensors, tokenizer), an s3://, gs://, az:// or "
            "https:// location of one or of a packed checkpoint, or a name on the Hugging Face hub.",
            metavar="DIR|URI|ORG/NAME",
        ),
    ],
    min_instances: Annotated[
        int, typer.Option(min=0, max=_MOST, help="Instances kept running even when nobody calls.")
    ] = 0,
    max_instances: Annotated[
        int, typer.Option(min=0, max=_MOST, help="Most instances at once; 0: as many as fit.")
    ] = 0,
    keep_alive: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="How long an instance stays without work, such as 90s or 5m; the cluster's default if not given.",
        ),
    ] = None,
    concurrency: Annotated[
        int,
        typer.Option(
            min=0, max=_MOST, help="Generations per instance before another is wanted; 0: the cluster's default."
        ),
    ] = 0,
    devices: Annotated[
        int, typer.Option(min=1, max=64, help="Devices of one node that hold the model together, an equal part each.")
    ] = 1,
    allow_pickle: Annotated[bool, typer.Option("--allow-pickle", help="Read torch pickles too.")] = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Pack a model into the cluster and make it callable under NAME."""
    kept = None if keep_alive is None else _duration(keep_alive)
    request = model_pb2.DeployModelRequest(
        request_id=new_request_id(),
        name=name,
        source_uri=source_uri(source),
        allow_pickle=allow_pickle,
        settings=model_pb2.ModelSettings(
            min_instances=min_instances,
            max_instances=max_instances,
            concurrency_target=concurrency,
            keep_alive=kept,
            devices=devices,
        ),
    )
    asyncio.run(_deploy(address, request))


def _duration(text: str) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(round(parse_seconds(text) * 1e9))
    return duration


def models(address: Address = DEFAULT_ADDRESS) -> None:
    """List the models that can be called."""
    found = asyncio.run(_models(address))
    if not found:
        out.print("no models yet; deploy one with [bold]kindling deploy NAME --source DIR[/]")
        return
    out.print(_table(found))


def delete(
    name: ModelName,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Stop a model's instances once their generations are done, and forget it."""
    if not yes and not typer.confirm(f"Delete model {name} and its packed weights?", err=True):
        raise typer.Exit(ExitCode.FAILURE)
    asyncio.run(_delete(address, name))
    out.print(f"deleted {name}")


def evict(
    name: ModelName,
    keep: Annotated[KeptTier, typer.Option(help="The fastest tier that may keep chunks.")],
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Stop a model's idle instances and drop its chunks from every tier above the one named."""
    response = asyncio.run(_evict(address, name, keep))
    out.print(
        f"stopped {response.stopped_instances} instance(s) of {name}, dropped {format_bytes(response.dropped_bytes)}"
    )


def source_uri(source: str | Path) -> str:
    """Return the URI of a model: of a directory, or of a name on the hub; INVALID_SOURCE if it cannot be one."""
    if _URI.match(str(source)):
        return str(source)
    directory = Path(source).expanduser().absolute()
    if not directory.exists() and _HUB_NAME.fullmatch(str(source)):
        return f"hf://{source}"
    if not (directory / "config.json").is_file():
        what = "has no config.json" if directory.is_dir() else "is not a directory"
        raise InvalidArgumentError(
            f"{directory} {what}; --source wants a Hugging Face model directory (config.json, *.safetensors, "
            "tokenizer.json), seen by the nodes under the same path",
            reason="INVALID_SOURCE",
        )
    return directory.as_uri()


async def deploy_with_progress(client: ClusterClient, request: model_pb2.DeployModelRequest) -> model_pb2.Model:
    """Deploy under a progress bar on stderr and return the model."""
    with Progress(
        TextColumn("packing {task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=err,
    ) as progress:
        return await _follow(client.deploy(request), progress, escape(request.name))


async def _follow(
    events: AsyncIterator[model_pb2.DeployModelResponse], progress: Progress, name: str
) -> model_pb2.Model:
    task = progress.add_task(name, total=None)
    deployed = model_pb2.Model()
    async for event in events:
        if event.HasField("deployed"):
            deployed = event.deployed
            total = deployed.checkpoint.total_bytes
            progress.update(task, completed=total, total=total)
        else:
            progress.update(task, completed=event.progress.done_bytes, total=event.progress.total_bytes or None)
    return deployed


async def _deploy(address: str, request: model_pb2.DeployModelRequest) -> None:
    async with connect(address) as client:
        deployed = await deploy_with_progress(client, request)
    checkpoint = deployed.checkpoint
    out.print(
        f"deployed [bold]{escape(deployed.name)}[/]: {escape(checkpoint.architecture)}, "
        f"{checkpoint.parameter_count / 1e6:,.0f} M parameters, {format_bytes(checkpoint.total_bytes)} in "
        f"{checkpoint.chunk_count} chunks"
    )
    out.print(f"talk to it with [bold]kindling chat {escape(deployed.name)}[/]")


async def _models(address: str) -> list[model_pb2.Model]:
    async with connect(address) as client:
        return await client.models()


async def _delete(address: str, name: str) -> None:
    async with connect(address) as client:
        await client.delete(name)


async def _evict(address: str, name: str, keep: KeptTier) -> model_pb2.EvictModelResponse:
    async with connect(address) as client:
        return await client.evict(name, keep.tier)


def _table(found: list[model_pb2.Model]) -> Table:
    table = Table(
        "model", "architecture", "parameters", "size", "dtype", "instances", "keep-alive", "context", box=None
    )
    for one in found:
        checkpoint, settings = one.checkpoint, one.settings
        table.add_row(
            escape(one.name),
            escape(checkpoint.architecture),
            f"{checkpoint.parameter_count / 1e6:,.0f} M",
            format_bytes(checkpoint.total_bytes),
            checkpoint.dtype,
            f"{settings.min_instances}–{settings.max_instances or '∞'}",
            _keep_alive(settings),
            str(checkpoint.context_length),
        )
    return table


def _keep_alive(settings: model_pb2.ModelSettings) -> str:
    if not settings.HasField("keep_alive"):
        return "default"
    return format_seconds(settings.keep_alive.ToTimedelta().total_seconds())

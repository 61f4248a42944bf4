"""`kindling checkpoint`: whether every byte is as it should be."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from kindling.checkpoint import VerificationReport
from kindling.checkpoint import verify as verify_directory
from kindling.cli.client import connect
from kindling.cli.console import ExitCode, err, out
from kindling.cli.parameters import DEFAULT_ADDRESS, Address
from kindling.platform.errors import InvalidArgumentError
from kindling.v1 import checkpoint_pb2, model_pb2

app = typer.Typer(no_args_is_help=True, help="Look after packed checkpoints.")


@app.callback()
def _checkpoint() -> None:
    """Look after packed checkpoints."""


@app.command()
def verify(
    what: Annotated[
        str, typer.Argument(metavar="MODEL|DIGEST|DIRECTORY", help="A model, a checkpoint, or a packed directory.")
    ],
    repair: Annotated[
        bool, typer.Option("--repair", help="Replace bad chunks on the nodes by good ones from another tier.")
    ] = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Read every byte of a checkpoint, on every node and in the remote store, and say what is wrong."""
    if _is_directory(what):
        if repair:
            raise InvalidArgumentError(
                "a directory has nothing to be repaired from; pack it again from its source", reason="CANNOT_REPAIR"
            )
        intact = _verify_directory(Path(what))
    else:
        intact = asyncio.run(_verify_model(address, model_pb2.VerifyModelRequest(name=what, repair=repair)))
    if not intact:
        raise typer.Exit(ExitCode.FAILURE)
    out.print(f"[green]{escape(what)} is intact[/]")


def _is_directory(what: str) -> bool:
    # A model's name has no slash, and `kindling checkpoint verify llama` means the model wherever one stands.
    return "/" in what or what in {".", ".."}


def _verify_directory(directory: Path) -> bool:
    with _bar() as bar:
        task = bar.add_task(escape(directory.name), total=None)
        report = verify_directory(
            directory.expanduser(), on_progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    for problem in _problems(directory, report):
        err.print(f"[bold red]bad:[/] {escape(problem)}", soft_wrap=True)
    return report.is_intact


def _problems(directory: Path, report: VerificationReport) -> list[str]:
    if report.manifest is None:
        return [report.problem]
    missing = [f"{directory / name} is missing" for name in report.missing_files]
    bad = [f"{directory / name} is not as long, or not as the manifest says" for name in report.bad_files]
    partitions = report.manifest.partitions
    files = {chunk: partitions[report.manifest.chunk_partition(chunk)].file_name for chunk in report.bad_chunks}
    return [
        *missing,
        *bad,
        *(f"chunk {chunk} of {directory / name} does not match its checksum" for chunk, name in files.items()),
    ]


async def _verify_model(address: str, request: model_pb2.VerifyModelRequest) -> bool:
    intact = False
    async with connect(address) as client:
        with _bar() as bar:
            tasks = {}
            async for event in client.verify(request):
                if event.HasField("progress"):
                    node_id, progress = event.progress.node_id, event.progress.progress
                    if node_id not in tasks:
                        tasks[node_id] = bar.add_task(escape(node_id), total=progress.total_bytes)
                    bar.update(tasks[node_id], completed=progress.done_bytes)
                elif event.HasField("node"):
                    _print_node(event.node)
                else:
                    intact = event.verified.intact
    return intact


def _print_node(node: model_pb2.NodeVerified) -> None:
    if not node.HasField("report"):
        err.print(f"[bold red]{escape(node.node_id)}:[/] {escape(node.problem)}", soft_wrap=True)
        return
    if not node.report.tiers:
        out.print(f"{escape(node.node_id)}: has nothing of it")
    for tier in node.report.tiers:
        name = checkpoint_pb2.Tier.Name(tier.tier).removeprefix("TIER_")
        out.print(f"{escape(node.node_id)} {name}: {tier.checked_chunks} chunks read, {len(tier.bad_chunks)} bad")
        for bad in tier.bad_chunks:
            word = "[green]repaired:[/]" if bad.repaired else "[bold red]bad:[/]"
            err.print(f"  {word} chunk {bad.chunk}: {escape(bad.problem)}", soft_wrap=True)
    if node.report.quarantined:
        err.print(f"{escape(node.node_id)}: the SSD copy was put aside; deploy the model again from its source")


def _bar() -> Progress:
    return Progress(
        TextColumn("verifying {task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TimeRemainingColumn(),
        console=err,
    )

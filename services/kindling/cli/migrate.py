"""`kindling migrate`: move a running model to another worker."""

import asyncio
from typing import Annotated

import typer
from rich.markup import escape

from kindling.cli.client import connect
from kindling.cli.console import err, out
from kindling.cli.parameters import DEFAULT_ADDRESS, Address, ModelName
from kindling.cli.values import check_worker_id
from kindling.v1 import cluster_pb2

Seen = dict[str, cluster_pb2.MigrationStatus]
_STAGES = {
    cluster_pb2.MIGRATION_STAGE_STARTING: "starting there",
    cluster_pb2.MIGRATION_STAGE_MOVING: "moving",
    cluster_pb2.MIGRATION_STAGE_STOPPING: "stopping here",
    cluster_pb2.MIGRATION_STAGE_DONE: "done",
}


def _check_source(worker_id: str) -> str:
    return check_worker_id(worker_id) if worker_id else ""


def migrate(
    name: ModelName,
    to: Annotated[
        str, typer.Option("--to", metavar="NODE/WORKER", help="The worker to move it to.", parser=check_worker_id)
    ],
    source: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="NODE/WORKER",
            help="Move only what runs there; left out: whatever runs elsewhere.",
            parser=_check_source,
        ),
    ] = "",
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Move a model's running instances to one worker, with every answer that is being written: no reader notices.

    It goes on if you press Ctrl-C; ask again to see how far it is.
    """
    request = cluster_pb2.MigrateModelRequest(model=name, to_worker_id=to, from_worker_id=source)
    seen = asyncio.run(_migrate(address, request))
    out.print(escape(summary(name, to, seen)), soft_wrap=True)


def summary(name: str, to: str, seen: Seen) -> str:
    """Return what has become of the migrations seen."""
    if not seen:
        return f"nothing to move: {name} runs on {to} already"
    moved, stayed = sum(one.moved for one in seen.values()), sum(one.stayed for one in seen.values())
    return f"moved {moved} generation{'' if moved == 1 else 's'} of {name} to {to}, {stayed or 'none'} stayed"


def describe(one: cluster_pb2.MigrationStatus) -> str:
    """Return how far a migration is, on a line."""
    stage = _STAGES.get(one.stage, "under way")
    return f"{one.instance_id} → {one.target_instance_id} on {one.target_worker_id}: {stage}, {one.moved} moved"


async def _migrate(address: str, request: cluster_pb2.MigrateModelRequest) -> Seen:
    """Show how it goes; returns the last that was told of each instance, by a leader or its successor."""
    seen: Seen = {}
    async with connect(address) as client:
        with err.status(f"moving {escape(request.model)}") as line:
            async for migrations in client.migrate(request):
                seen |= {one.instance_id: _later(seen.get(one.instance_id), one) for one in migrations}
                if migrations:
                    line.update("\n".join(escape(describe(one)) for one in migrations))
    return seen


def _later(
    earlier: cluster_pb2.MigrationStatus | None, told: cluster_pb2.MigrationStatus
) -> cluster_pb2.MigrationStatus:
    """What was told last; a new leader does not know what moved under the one before."""
    if earlier is not None:
        told.moved = max(earlier.moved, told.moved)
    return told

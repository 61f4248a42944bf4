"""`kindling status`: what the cluster is doing, as its leader sees it."""

import asyncio
from datetime import UTC
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from kindling.cli.client import connect
from kindling.cli.console import out
from kindling.cli.estimates import render_estimates
from kindling.cli.parameters import DEFAULT_ADDRESS, Address
from kindling.cli.prefetches import render_prefetches
from kindling.cli.tables import table, tier_name
from kindling.cli.values import format_bytes, format_rate, format_seconds
from kindling.v1 import cluster_pb2

_STATES = {
    cluster_pb2.INSTANCE_STATE_STARTING: "[yellow]starting[/]",
    cluster_pb2.INSTANCE_STATE_READY: "[green]ready[/]",
    cluster_pb2.INSTANCE_STATE_STOPPING: "[dim]stopping[/]",
}


def status(
    address: Address = DEFAULT_ADDRESS,
    estimates: Annotated[
        bool, typer.Option("--estimates", help="Show instead what the leader learned, and how well it foresees starts.")
    ] = False,
    prefetch: Annotated[
        bool,
        typer.Option("--prefetch", help="Show instead what became of what was brought to DRAM or SSD ahead of calls."),
    ] = False,
) -> None:
    """Show who leads, the nodes with their tiers and workers, the instances and the models."""
    seen = asyncio.run(_status(address, include_estimates=estimates))
    if not estimates and not prefetch:
        out.print(render(seen))
        return
    out.print(_leader(seen))
    if estimates:
        out.print(Group("", render_estimates(seen.estimates)))
    if prefetch:
        out.print(Group("", render_prefetches(seen)))


def render(seen: cluster_pb2.GetClusterStatusResponse) -> RenderableType:
    """Return a cluster's status to print."""
    parts: list[RenderableType] = [_leader(seen), "", _nodes(seen), "", _workers(seen), ""]
    parts.append(_instances(seen) if seen.instances else "[dim]no instances: nobody called a model lately[/]")
    parts += ["", _models(seen)]
    return Group(*parts)


async def _status(address: str, *, include_estimates: bool) -> cluster_pb2.GetClusterStatusResponse:
    async with connect(address) as client:
        return await client.status(include_estimates=include_estimates)


def _leader(seen: cluster_pb2.GetClusterStatusResponse) -> str:
    if not seen.leader_id:
        return "[bold red]no scheduler leads[/]: no new decisions are made until one does"
    since = seen.leader_since.ToDatetime(tzinfo=UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return f"[bold]{escape(seen.leader_id)}[/] leads since {since} ({seen.leader_address})"


def _nodes(seen: cluster_pb2.GetClusterStatusResponse) -> Table:
    shown = table("node", "tier", "used", "of", "pinned", "read at", "backing", "checkpoints")
    for node in seen.nodes:
        label = escape(node.node_id) + (" [yellow](drained)[/]" if node.drained else "")
        for tier in node.tiers or [cluster_pb2.TierStatus()]:
            shown.add_row(
                label,
                tier_name(tier.tier),
                format_bytes(tier.used_bytes),
                format_bytes(tier.capacity_bytes) if tier.capacity_bytes else "unbounded",
                format_bytes(tier.pinned_bytes) if tier.pinned_bytes else "–",
                format_rate(tier.bandwidth_bytes_per_second),
                escape(tier.backing) or "–",
                ", ".join(_resident(one) for one in tier.checkpoints) or "–",
            )
            label = ""
    return shown


def _resident(checkpoint: cluster_pb2.ResidentCheckpoint) -> str:
    algorithm, _, digest = checkpoint.digest.partition(":")
    return f"{(digest or algorithm)[:8]} ({checkpoint.chunks} chunks, {format_bytes(checkpoint.bytes)})"


def _workers(seen: cluster_pb2.GetClusterStatusResponse) -> Table:
    shown = table("worker", "device", "slots", "address", "runs")
    running: dict[str, list[str]] = {}
    for instance in seen.instances:
        for worker_id in (instance.worker_id, *instance.other_worker_ids):
            running.setdefault(worker_id, []).append(instance.model)
    for node in seen.nodes:
        for worker in node.workers:
            runs = ", ".join(running.get(worker.worker_id, [])) or "–"
            shown.add_row(escape(worker.worker_id), worker.device, str(worker.slots), worker.address, escape(runs))
    return shown


def _instances(seen: cluster_pb2.GetClusterStatusResponse) -> Table:
    shown = table("instance", "worker", "state", "generations", "idle", "from", "start expected", "start took")
    for one in seen.instances:
        shown.add_row(
            escape(one.instance_id),
            escape(", ".join((one.worker_id, *one.other_worker_ids))),
            _STATES.get(one.state, "unknown"),
            str(one.generations),
            format_seconds(one.idle_seconds) if one.idle_seconds else "–",
            tier_name(getattr(one, "from")),
            format_seconds(one.estimated_seconds),
            format_seconds(one.startup_seconds) if one.startup_seconds else "–",
        )
    return shown


def _models(seen: cluster_pb2.GetClusterStatusResponse) -> Table | str:
    if not seen.models:
        return "[dim]no models; deploy one with[/] kindling deploy NAME --source DIR"
    shown = table("model", "checkpoint", "size", "chunks", "instances")
    for one in seen.models:
        instances = sum(instance.model == one.name for instance in seen.instances)
        digest = one.checkpoint.digest.partition(":")[2]
        size = format_bytes(one.checkpoint.total_bytes)
        shown.add_row(escape(one.name), digest[:8], size, str(one.checkpoint.chunk_count), str(instances))
    return shown

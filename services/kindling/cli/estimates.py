"""What `kindling status --estimates` shows: what the leader has learned, and how well it foresees starts."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from kindling.cli.tables import table, tier_name
from kindling.cli.values import format_rate, format_seconds
from kindling.v1 import cluster_pb2

_KINDS = {
    cluster_pb2.ESTIMATE_KIND_STARTUP: "startup",
    cluster_pb2.ESTIMATE_KIND_LOAD: "load",
    cluster_pb2.ESTIMATE_KIND_INIT: "init",
    cluster_pb2.ESTIMATE_KIND_MIGRATION: "migration",
}
_BARS = " ▁▂▃▄▅▆▇█"


def render_estimates(estimates: cluster_pb2.Estimates) -> RenderableType:
    """Return what was learned to print; a part of which nothing is known is left out."""
    if not estimates.qualities and not estimates.inits:
        return "[dim]nothing learned yet: no model was started since this scheduler leads[/]"
    parts = [
        (estimates.qualities, _qualities),
        (estimates.links, _links),
        (estimates.inits, _inits),
        (estimates.migrations, _migrations),
    ]
    shown: list[RenderableType] = []
    for learned, render in parts:
        if learned:
            shown += ["", render(estimates)] if shown else [render(estimates)]
    return Group(*shown)


def bars(counts: Sequence[int]) -> str:
    """Return a histogram as one character for each count, the most as high as a line."""
    most = max(counts, default=0)
    return "".join(_BARS[-(-count * (len(_BARS) - 1) // most)] if most else _BARS[0] for count in counts)


def _qualities(estimates: cluster_pb2.Estimates) -> RenderableType:
    shown = table("estimate", "from", "node", "count", "median error", "P90 error", "too low … too high")
    for one in estimates.qualities:
        counts = [bucket.count for bucket in one.histogram]
        shown.add_row(
            _KINDS.get(one.kind, "unknown"),
            tier_name(getattr(one, "from")),
            escape(one.node_id) or "all",
            str(one.count),
            f"{one.median_error:.1%}",
            f"{one.p90_error:.1%}",
            f"│{bars(counts)}│",
        )
    bounds = [bucket.upper_bound for bucket in estimates.qualities[0].histogram][:-1]
    legend = ", ".join(f"{bound:+.0%}" if bound else "0" for bound in bounds)
    return Group(shown, f"[dim]the columns end at an error of {legend}, and the last at none[/]")


def _links(estimates: cluster_pb2.Estimates) -> Table:
    shown = table("node", "tier", "measured", "expected", "besides", "loads")
    for one in estimates.links:
        measured, expected = format_rate(one.measured_bytes_per_second), format_rate(one.bytes_per_second)
        besides = format_seconds(one.latency_seconds)
        shown.add_row(escape(one.node_id), tier_name(one.tier), measured, expected, besides, str(one.loads))
    return shown


def _inits(estimates: cluster_pb2.Estimates) -> Table:
    shown = table("checkpoint", "device", "weights are", "init expected", "starts")
    for one in estimates.inits:
        weights, seconds = "read meanwhile" if one.while_reading else "there", format_seconds(one.seconds)
        shown.add_row(_short(one.digest), escape(one.device_kind), weights, seconds, str(one.starts))
    return shown


def _migrations(estimates: cluster_pb2.Estimates) -> Table:
    shown = table("checkpoint", "to device", "per 1,000 tokens", "besides", "tokens expected", "migrations")
    for one in estimates.migrations:
        shown.add_row(
            _short(one.digest),
            escape(one.device_kind),
            format_seconds(1000 * one.seconds_per_token),
            format_seconds(one.base_seconds),
            f"{one.generation_tokens:,.0f}",
            str(one.migrations),
        )
    return shown


def _short(digest: str) -> str:
    algorithm, _, rest = digest.partition(":")
    return escape((rest or algorithm)[:8])

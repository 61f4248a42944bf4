"""What `kindling status --prefetch` shows: whether what was brought nearer ahead of calls was of use."""

from rich.console import RenderableType
from rich.markup import escape

from kindling.cli.tables import table
from kindling.cli.values import format_bytes
from kindling.v1 import cluster_pb2


def render_prefetches(seen: cluster_pb2.GetClusterStatusResponse) -> RenderableType:
    """Return every node's counts to print, by the tier that was brought to; a hit is a start that found some of it."""
    counted = [
        (node.node_id, tier, counts)
        for node in seen.nodes
        for tier, counts in (("DRAM", node.prefetch), ("SSD", node.prefetch_to_ssd))
        if counts.prefetched_bytes
    ]
    if not counted:
        why = "it takes a model that is called again and again, and no KINDLING_SCHEDULER_PREFETCH=false"
        return f"[dim]nothing was prefetched yet: {why}[/]"
    shown = table("node", "to", "prefetched", "hits", "misses", "hit rate", "used", "wasted")
    for node_id, tier, counts in counted:
        ended = counts.hits + counts.misses
        shown.add_row(
            escape(node_id),
            tier,
            format_bytes(counts.prefetched_bytes),
            str(counts.hits),
            str(counts.misses),
            f"{counts.hits / ended:.0%}" if ended else "–",
            format_bytes(counts.hit_bytes),
            format_bytes(counts.wasted_bytes),
        )
    return shown

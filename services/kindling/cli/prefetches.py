"""What `kindling status --prefetch` shows: whether what was brought to DRAM ahead of calls was of use."""

from rich.console import RenderableType
from rich.markup import escape

from kindling.cli.tables import table
from kindling.cli.values import format_bytes
from kindling.v1 import cluster_pb2


def render_prefetches(seen: cluster_pb2.GetClusterStatusResponse) -> RenderableType:
    """Return every node's counts to print; a hit is a start that found prefetched chunks."""
    if not any(node.prefetch.prefetched_bytes for node in seen.nodes):
        return "[dim]nothing was prefetched yet: it takes a model that is called again and again, from an SSD[/]"
    shown = table("node", "prefetched", "hits", "misses", "hit rate", "used", "wasted")
    for node in seen.nodes:
        counts = node.prefetch
        ended = counts.hits + counts.misses
        shown.add_row(
            escape(node.node_id),
            format_bytes(counts.prefetched_bytes),
            str(counts.hits),
            str(counts.misses),
            f"{counts.hits / ended:.0%}" if ended else "–",
            format_bytes(counts.hit_bytes),
            format_bytes(counts.wasted_bytes),
        )
    return shown

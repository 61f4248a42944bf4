"""Tables as commands print them, and what several have in their cells."""

from rich.table import Table

from kindling.v1 import checkpoint_pb2


def table(*columns: str) -> Table:
    """Return a table without lines."""
    return Table(*columns, box=None, header_style="bold dim", padding=(0, 2, 0, 0))


def tier_name(tier: "checkpoint_pb2.Tier.ValueType") -> str:
    """Return a tier as people call it: `DRAM`; a dash if it is not said."""
    return "–" if tier == checkpoint_pb2.TIER_UNSPECIFIED else checkpoint_pb2.Tier.Name(tier).removeprefix("TIER_")

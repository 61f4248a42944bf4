"""The table of each workload: startup latencies, starts, and what it costs."""

from collections.abc import Sequence

from kindling.simulate.results import Cell
from kindling.simulate.text_table import TextTable

_COLUMNS = (
    *("policy", "mean", "P50", "P95", "P99", "gave up", "from GPU", "DRAM", "SSD", "REMOTE"),
    *("moved", "preempted", "prefetch hits", "prefetched", "wasted", "device hours", "per 1,000"),
)


def cells_table(cells: Sequence[Cell], price_per_device_hour: float) -> TextTable:
    """Return the figures of each policy on one workload; figures are means over seeds."""
    rows = [_row(one, price_per_device_hour) for one in cells]
    return TextTable(f"Startup latency: {cells[0].workload}, {cells[0].model}", _COLUMNS, rows)


def _row(one: Cell, price_per_device_hour: float) -> tuple[str, ...]:
    seconds = (one.mean_seconds, one.p50_seconds, one.p95_seconds, one.p99_seconds)
    counts = (one.refused, *one.starts_by_tier.values(), one.migrations, one.preemptions, one.prefetch_hits)
    brought = (one.prefetched_bytes, one.prefetch_wasted_bytes)
    return (
        one.policy,
        *(f"{value:,.2f} s" for value in seconds),
        *(f"{count:,.0f}" for count in counts),
        *(f"{size_bytes / 1e9:,.0f} GB" for size_bytes in brought),
        f"{one.device_seconds / 3600:,.1f}",
        f"${one.cost_per_thousand(price_per_device_hour):,.2f}",
    )

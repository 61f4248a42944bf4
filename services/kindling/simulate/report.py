"""The tables of each workload: startup latencies and starts, and what they took."""

from collections.abc import Sequence
from typing import Final

from kindling.simulate.results import Cell
from kindling.simulate.text_table import TextTable

_STARTUP: Final = ("policy", "mean", "P50", "P95", "P99", "gave\nup", "GPU", "DRAM", "SSD", "REMOTE")
_EFFORT: Final = (
    *("policy", "moved", "preempted", "prefetch\nhits", "brought\nGB", "wasted\nGB", "device\nhours"),
    "$ per\n1,000",
)


def cells_tables(cells: Sequence[Cell], price_per_device_hour: float) -> list[TextTable]:
    """Return the figures of each policy on one workload, means over seeds, in two tables that fit 80 columns."""
    what = f"{cells[0].workload}, {cells[0].model}"
    effort = f"Moves, prefetches to DRAM and SSD, devices at ${price_per_device_hour:g} per hour: {what}"
    return [
        TextTable(f"Startup seconds, and starts by tier: {what}", _STARTUP, list(map(_startup, cells))),
        TextTable(effort, _EFFORT, [_effort(one, price_per_device_hour) for one in cells]),
    ]


def _startup(one: Cell) -> tuple[str, ...]:
    seconds = (one.mean_seconds, one.p50_seconds, one.p95_seconds, one.p99_seconds)
    counts = (one.refused, *one.starts_by_tier.values())
    return (one.policy, *(f"{value:,.2f}" for value in seconds), *(f"{count:,.0f}" for count in counts))


def _effort(one: Cell, price_per_device_hour: float) -> tuple[str, ...]:
    counts = (one.migrations, one.preemptions, one.prefetch_hits + one.copy_hits)
    brought = (one.prefetched_bytes + one.copied_bytes, one.prefetch_wasted_bytes + one.copy_wasted_bytes)
    return (
        one.policy,
        *(f"{count:,.0f}" for count in counts),
        *(f"{size_bytes / 1e9:,.0f}" for size_bytes in brought),
        f"{one.device_seconds / 3600:,.1f}",
        f"{one.cost_per_thousand(price_per_device_hour):,.2f}",
    )

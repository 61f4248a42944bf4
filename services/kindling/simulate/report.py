"""What `kindling simulate` prints."""

from collections.abc import Sequence

from rich.table import Table

from kindling.simulate.results import Cell


def cells_table(cells: Sequence[Cell], price_per_device_hour: float) -> Table:
    """Startup latencies, starts and cost of each policy."""
    table = Table(title=f"Startup latency: {cells[0].workload}, {cells[0].model}")
    table.add_column("policy")
    for column in (
        "mean",
        "P50",
        "P95",
        "P99",
        "gave up",
        "from GPU",
        "DRAM",
        "SSD",
        "REMOTE",
        "device hours",
        "per 1,000",
    ):
        table.add_column(column, justify="right")
    for one in cells:
        seconds = (one.mean_seconds, one.p50_seconds, one.p95_seconds, one.p99_seconds)
        table.add_row(
            one.policy,
            *(f"{value:,.2f} s" for value in seconds),
            f"{one.refused:,.0f}",
            *(f"{starts:,.0f}" for starts in one.starts_by_tier.values()),
            f"{one.device_seconds / 3600:,.1f}",
            f"${one.cost_per_thousand(price_per_device_hour):,.2f}",
        )
    return table

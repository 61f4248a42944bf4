"""The benchmark's table and its JSON."""

import statistics
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from kindling.bench.goals import goals_table, goals_values
from kindling.bench.load.goals import GOALS, ratios
from kindling.bench.load.options import LoadOptions
from kindling.bench.load.results import Results
from kindling.bench.load.rows import ROWS, Row
from kindling.bench.machine import machine

TIMER = (
    "inside the timer: from the call (ours: from asking the storage manager for the lease) until one byte of every "
    "4 KiB page of every tensor was read; 'views': until all bytes have arrived and every tensor is a view. Outside: "
    "imports, connecting, one tiny load in the same process. Peers run in a fresh process each, on fresh memory; "
    "'fresh pool' is ours like for like, without it the pool was touched at start, as in the service"
)


def as_json(results: Results, options: LoadOptions) -> bytes:
    """Everything, for other programs and for later."""
    found = ratios(results)
    document = {
        "ratios": found,
        "goals": goals_values(found, GOALS),
        "rows": [_row_values(row, results) for row in ROWS if row.key in results.seconds],
        "figures": results.figures,
        "failures": results.failures,
        "machine": machine() | {"checkpoint_bytes": options.size_bytes, "rounds": options.rounds},
        "notes": [TIMER, *results.notes, _noise(results)],
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2)


def print_report(results: Results, console: Console) -> None:
    """Print rows, ratios beside their goals, and notes."""
    console.print(_rows_table(results))
    console.print(goals_table(ratios(results), GOALS))
    for key, why in results.failures.items():
        console.print(f"not measured: {key}: {why}", soft_wrap=True, markup=False)
    for note in (TIMER, *results.notes, _noise(results)):
        console.print(f"· {note}", soft_wrap=True, markup=False)


def _rows_table(results: Results) -> Table:
    table = Table(title="Loading a checkpoint into CPU memory")
    for column in ("loader", "bytes", "median", "min–max", "GB/s", "samples"):
        table.add_column(column, justify="left" if column in {"loader", "bytes"} else "right")
    for row in ROWS:
        if row.key in results.seconds:
            table.add_row(*_cells(row, results))
    return table


def _cells(row: Row, results: Results) -> tuple[str, ...]:
    samples = results.seconds[row.key]
    scale, unit = (1e3, "ms") if row.in_milliseconds else (1.0, "s")
    low, middle, high = (scale * value for value in (min(samples), statistics.median(samples), max(samples)))
    rate = "" if row.in_milliseconds else f"{(results.rate(row.key) or 0) / 1e9:.2f}"
    return (row.label, row.state, f"{middle:.2f} {unit}", f"{low:.2f}–{high:.2f}", rate, str(len(samples)))


def _row_values(row: Row, results: Results) -> dict[str, Any]:
    return {
        "key": row.key,
        "label": row.label,
        "kind": row.kind,
        "state": row.state,
        "bytes": results.bytes_by_row[row.key],
        "median_seconds": results.median_seconds(row.key),
        "bytes_per_second": results.rate(row.key),
        "seconds": results.seconds[row.key],
    }


def _noise(results: Results) -> str:
    middle, worst = results.noise()
    return f"noise: a row's rounds lie {middle:.0%} apart in the median and {worst:.0%} at worst ((max - min) / median)"

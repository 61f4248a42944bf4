"""The benchmark's tables and its JSON."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from kindling.bench.goals import Goal, Ratio, goals_table, goals_values
from kindling.bench.machine import machine
from kindling.bench.trace.options import TraceOptions
from kindling.bench.trace.results import Figure, Pair, cpu_seconds, overhead, step_seconds

GOALS = (Goal("tracing_over_step", 0.02, at_least=False),)
FIGURES: dict[str, Figure] = {"decode step": step_seconds, "CPU per step": cpu_seconds}
TIMER = (
    "inside the timer: from a generation's first token to its last, at a client of the worker's gRPC, over the tokens "
    "between; CPU: the worker's process over a whole pass, prompts included. Outside: loading, a first pass"
)
PAIRS = (
    "two workers run at once that differ in tracing alone: one keeps its spans in a ring and exports them to a "
    "collector in the benchmark's process, every request sampled; they get the same prompts in turns"
)
RATIO = "a ratio is the median of traced over plain, less 1, over all pairs; below zero, noise is more than the cost"


def ratios(pairs: Sequence[Pair]) -> dict[str, Ratio]:
    """What tracing adds to a decode step, in wall time and in CPU time, as a share of it."""
    return {
        "tracing_over_step": overhead(pairs, step_seconds),
        "tracing_over_step_cpu": overhead(pairs, cpu_seconds),
    }


def as_json(pairs: Sequence[Pair], options: TraceOptions) -> bytes:
    """Everything, for other programs and for later."""
    found = ratios(pairs)
    document = {
        "ratios": found,
        "goals": goals_values(found, GOALS),
        "pairs": [asdict(pair) for pair in pairs],
        "machine": machine() | _workload(options),
        "notes": _notes(options),
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2)


def print_report(pairs: Sequence[Pair], options: TraceOptions, console: Console) -> None:
    """Print both workers' figures, ratios beside their goal, and notes."""
    table = Table(title="Milliseconds")
    for column in ("figure", "plain", "traced", "pairs differ by (quartiles)"):
        table.add_column(column, justify="left" if column == "figure" else "right")
    for name, figure in FIGURES.items():
        table.add_row(name, *_cells(pairs, figure))
    console.print(table)
    console.print(goals_table(ratios(pairs), GOALS, ".4f"))
    for note in _notes(options):
        console.print(f"· {note}", soft_wrap=True, markup=False)


def _cells(pairs: Sequence[Pair], figure: Figure) -> tuple[str, ...]:
    medians = [
        statistics.median(map(figure, side))
        for side in zip(*((pair.plain, pair.traced) for pair in pairs), strict=True)
    ]
    differences = sorted(figure(pair.traced) / figure(pair.plain) - 1 for pair in pairs)
    quarter = len(differences) // 4
    spread = f"{differences[quarter]:+.1%} to {differences[-1 - quarter]:+.1%}"
    return (*(f"{1000 * median:.2f}" for median in medians), spread)


def _workload(options: TraceOptions) -> dict[str, Any]:
    return {
        "starts": options.starts,
        "rounds": options.rounds,
        "streams": options.streams,
        "new_tokens": options.new_tokens,
    }


def _notes(options: TraceOptions) -> tuple[str, ...]:
    workload = (
        f"{options.streams} generations at once of {options.new_tokens} greedy tokens each; {options.starts} starts of "
        f"both workers with {options.rounds} pairs each; one thread computes"
    )
    return (workload, TIMER, PAIRS, RATIO)

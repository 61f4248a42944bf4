"""The benchmark's table and its JSON."""

import statistics
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from kindling.bench.engine.goals import GOALS, ratios
from kindling.bench.engine.options import EngineOptions
from kindling.bench.engine.results import Results
from kindling.bench.engine.ways import Way
from kindling.bench.engine.workload import LONGEST_PROMPT, SHORTEST_PROMPT
from kindling.bench.goals import goals_table, goals_values
from kindling.bench.machine import machine

TIMER = (
    "inside the timer: from the moment when all prompts are there until the last token, prompts included; outside: "
    "imports, loading, a first short run. Each measurement in a fresh process, with as many threads as cores"
)
SERIAL = "one by one is measured with at most 8 requests: how many wait does not change its rate"


def as_json(results: Results, options: EngineOptions) -> bytes:
    """Everything, for other programs and for later."""
    found = ratios(results, options.loads)
    document = {
        "ratios": found,
        "goals": goals_values(found, GOALS),
        "rows": [_row_values(way, load, results) for way, load in results.rates],
        "failures": {str(way): why for way, why in results.failures.items()},
        "machine": machine() | {"rounds": options.rounds, "new_tokens": options.new_tokens},
        "notes": _notes(results, options),
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2)


def print_report(results: Results, options: EngineOptions, console: Console) -> None:
    """Print rows, ratios beside their goals, and notes."""
    console.print(_rows_table(results, options))
    console.print(goals_table(ratios(results, options.loads), GOALS))
    for way, why in results.failures.items():
        console.print(f"not measured: {way.label}: {why}", soft_wrap=True, markup=False)
    for note in _notes(results, options):
        console.print(f"· {note}", soft_wrap=True, markup=False)


def _rows_table(results: Results, options: EngineOptions) -> Table:
    table = Table(title="Tokens per second")
    for column in ("way", "requests at once", "median", "min–max", "samples"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for load in options.loads:
        for way in Way:
            samples = results.rates.get((way, load))
            if samples:
                spread = f"{min(samples):.1f}–{max(samples):.1f}"
                table.add_row(way.label, str(load), f"{statistics.median(samples):.1f}", spread, str(len(samples)))
        table.add_section()
    return table


def _row_values(way: Way, load: int, results: Results) -> dict[str, Any]:
    return {
        "key": f"{way}_{load}",
        "label": way.label,
        "concurrent": load,
        "median_tokens_per_second": results.rate(way, load),
        "tokens_per_second": results.rates[way, load],
    }


def _notes(results: Results, options: EngineOptions) -> tuple[str, ...]:
    workload = (
        f"a Llama of 60 million random parameters in bf16; prompts of {SHORTEST_PROMPT} to {LONGEST_PROMPT} tokens, "
        f"{options.new_tokens} greedy tokens after each, whatever they are"
    )
    middle, worst = results.noise()
    noise = f"noise: a row's rounds lie {middle:.0%} apart in the median, {worst:.0%} at worst ((max - min) / median)"
    return (workload, TIMER, SERIAL, noise)

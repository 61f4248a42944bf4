"""The benchmark's tables and its JSON."""

import itertools
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict

import orjson
from rich.console import Console
from rich.table import Table

from kindling.bench.goals import goals_table, goals_values
from kindling.bench.machine import machine
from kindling.bench.migrate.divergence_rows import divergence_rows
from kindling.bench.migrate.goals import GOALS, all_migrated, p99, ratios, slowdown
from kindling.bench.migrate.memory import AT_ONCE
from kindling.bench.migrate.options import MigrateOptions
from kindling.bench.migrate.results import Results, Single


def as_json(results: Results, options: MigrateOptions) -> bytes:
    """Everything, for other programs and for later."""
    found = ratios(results)
    document = {
        "ratios": found,
        "goals": goals_values(found, GOALS),
        "rows": [{"key": key, "samples": samples} for key, samples in _rows(results)],
        "singles": [asdict(single) for single in results.singles],
        "load": [asdict(migrated) for migrated in results.load_migrated],
        "failovers": [asdict(one) | {"detection_seconds": one.detection_seconds} for one in results.failovers],
        "divergence": [asdict(row) | {"rate": row.rate} for row in divergence_rows(results.divergences)],
        "memory_bytes": {"before": results.memory_before, "after": results.memory_after},
        "compared_tokens": results.compared_tokens,
        "mismatches": [asdict(mismatch) for mismatch in results.mismatches],
        "failures": results.failures,
        "machine": machine() | {"migrations": options.migrations, "repeats": options.repeats},
        "notes": _notes(results, options),
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2)


def print_report(results: Results, options: MigrateOptions, console: Console) -> None:
    """Print rows, ratios beside their goals, and notes; what must not be comes last, where it is seen."""
    console.print(_singles_table(results))
    console.print(_rows_table(results))
    console.print(_divergence_table(results))
    console.print(goals_table(ratios(results), GOALS, ".4g"))
    for note in _notes(results, options):
        console.print(f"· {note}", soft_wrap=True, markup=False)
    for part, why in results.failures.items():
        console.print(f"not measured to its end: {part}: {why}", soft_wrap=True, markup=False, style="bold red")
    for mismatch in results.mismatches:
        console.print(
            f"TOKENS DIFFER: {mismatch.part}: {mismatch.positions} of them, from position {mismatch.first} on",
            soft_wrap=True,
            markup=False,
            style="bold red",
        )


def _singles_table(results: Results) -> Table:
    table = Table(title="One stream moves: medians")
    for column in ("prompt", "rounds", "tokens sent", "bytes over KV", "handover", "pause", "median gap", "in all"):
        table.add_column(column, justify="right")
    by_length = sorted(results.singles, key=lambda single: single.migrated.prompt_tokens)
    for length, singles in itertools.groupby(by_length, key=lambda single: single.migrated.prompt_tokens):
        table.add_row(str(length), *_single_cells(list(singles)))
    return table


def _single_cells(singles: Sequence[Single]) -> tuple[str, ...]:
    moved = [single.migrated for single in singles]
    return (
        f"{statistics.median(len(one.round_tokens) - 1 for one in moved):g}",
        " ".join(str(count) for count in moved[0].round_tokens),
        f"{max(one.bytes_over_kv for one in moved):.5f}",
        _milliseconds(one.handover_seconds for one in moved),
        _milliseconds(single.pause_seconds for single in singles),
        _milliseconds(single.median_gap_seconds for single in singles),
        f"{statistics.median(one.seconds for one in moved):.2f} s",
    )


def _milliseconds(samples: Iterator[float]) -> str:
    return f"{1e3 * statistics.median(samples):.1f} ms"


def _rows(results: Results) -> Iterator[tuple[str, list[float]]]:
    """Every kind of sample, by name."""
    yield "load_pause_seconds", results.load_pauses
    yield "load_gap_seconds", results.load_gaps
    yield "load_handover_seconds", [one.handover_seconds for one in results.load_migrated]
    yield "load_rounds", [float(len(one.round_tokens) - 1) for one in results.load_migrated]
    yield "bytes_over_kv", [one.bytes_over_kv for one in all_migrated(results)]
    yield "gap_during_rounds_over_before", results.slowdowns
    yield "gap_beside_other_work_over_before", results.busy_slowdowns
    yield "failover_gap_seconds", [one.gap_seconds for one in results.failovers]
    yield "failover_detection_seconds", [one.detection_seconds for one in results.failovers]


def _rows_table(results: Results) -> Table:
    table = Table(title="Samples")
    for column in ("figure", "median", "P99", "worst", "samples"):
        table.add_column(column, justify="left" if column == "figure" else "right")
    for key, samples in _rows(results):
        if samples:
            cells = (statistics.median(samples), p99(samples), max(samples))
            table.add_row(key, *(f"{cell:.4g}" for cell in cells), str(len(samples)))
    return table


def _divergence_table(results: Results) -> Table:
    table = Table(title="Computed anew in the middle, in the fast mode")
    for column in ("numbers", "tokens", "generations", "went on otherwise", "same tokens before, median"):
        table.add_column(column, justify="left" if column in {"numbers", "tokens"} else "right")
    for row in divergence_rows(results.divergences):
        before = "" if row.median_same_tokens is None else f"{row.median_same_tokens:g}"
        table.add_row(row.dtype, row.sampling, str(row.generations), f"{row.rate:.0%}", before)
    return table


def _notes(results: Results, options: MigrateOptions) -> list[str]:
    compared = f"{results.compared_tokens} tokens were compared with undisturbed runs"
    return [_model_note(options), *_method_notes(options), compared, *results.notes, *_beside(results), _noise(results)]


def _model_note(options: MigrateOptions) -> str:
    shape = options.shape
    return (
        f"a Llama of {shape.layers} layers, {shape.heads} heads and {shape.kv_heads} for keys and values, in float32; "
        f"{shape.kv_bytes_per_token} bytes of KV cache per token; seeded sampling at temperature 1"
    )


def _method_notes(options: MigrateOptions) -> tuple[str, ...]:
    pause = (
        f"under load: {options.streams} streams at once on one worker, all moved at once, to and fro; the pause is the "
        "time between the last token before the handover and the first after it, at a client of the gateway"
    )
    memory = (
        f"memory: RSS of both workers when idle, before and after the streams under load and {options.generations} "
        f"generations of 8 tokens, {AT_ONCE} at once; before it, as much as a warm-up"
    )
    sent = "bytes are those of the messages, without gRPC's and HTTP's frames"
    failover = "failover: the gap less the fastest time to the first token of the same tokens sent as a prompt"
    divergence = (
        f"computed anew: {options.recomputed} generations at once of {options.load_prompt} + {options.head_tokens} "
        f"tokens, {options.recomputed_tokens} after them compared; random weights choose between almost equal "
        "tokens, so that trained ones diverge more seldom"
    )
    return (pause, memory, sent, failover, divergence)


def _beside(results: Results) -> list[str]:
    """How much of the bystanders' slowdown is the machine's own."""
    longer = slowdown(results.busy_slowdowns)
    if longer is None:
        return []
    what = "the other worker computes prompts of the same length that have nothing to do with the streams"
    return [f"gaps are {longer:+.1%} longer while {what}: what the machine's cores share"]


def _noise(results: Results) -> str:
    gaps = sorted(results.load_gaps)
    if not gaps:
        return "noise: no gaps were measured"
    low, middle, high = (gaps[int(len(gaps) * share)] for share in (0.05, 0.5, 0.95))
    spread = f"{low / middle - 1:+.0%} and {high / middle - 1:+.0%}"
    return f"noise: 90 % of the gaps under load lie within {spread} of the median"

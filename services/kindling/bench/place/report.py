"""The benchmark's tables and its JSON."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from kindling.bench.goals import goals_table, goals_values
from kindling.bench.machine import machine
from kindling.bench.place.goals import goals, ratios
from kindling.bench.place.options import PlaceOptions
from kindling.bench.place.results import Kind, Sample, percentile

TIMER = (
    "inside the timer: the event, its entry into the view, and the planning that follows it in the service; a warm "
    "grant is given without any. Outside: etcd, the wire, what is logged, and the driver's own book-keeping"
)
RATE = "decisions per second: grants, starts, evictions and waits over the time of all events, most without a decision"
STREAM = (
    "one process, one core; half of the events with a tenth of the slots free, half with none; one slot per worker, "
    "and as many events per worker in each cluster"
)
MEMORY = "memory of the view: all objects of planner and view once every worker has told that it runs nothing"
NOTES = (TIMER, RATE, STREAM, MEMORY)


def as_json(samples: Sequence[Sample], options: PlaceOptions) -> bytes:
    """Everything, for other programs and for later."""
    found = ratios(samples)
    document = {
        "ratios": found,
        "goals": goals_values(found, goals(samples)),
        "clusters": [_cluster_values(sample) for sample in samples],
        "machine": machine() | {"steps": options.steps, "seed": options.seed},
        "notes": NOTES,
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2)


def print_report(samples: Sequence[Sample], console: Console) -> None:
    """Print what each kind of event cost, the memory, ratios beside their goals, and notes."""
    console.print(_kinds_table(samples))
    console.print(_clusters_table(samples))
    console.print(goals_table(ratios(samples), goals(samples), ".3f"))
    for note in NOTES:
        console.print(f"· {note}", soft_wrap=True, markup=False)


def _kinds_table(samples: Sequence[Sample]) -> Table:
    table = Table(title="Microseconds by event")
    for column in ("event", "workers", "events", "median", "P99", "most"):
        table.add_column(column, justify="left" if column == "event" else "right")
    for kind in Kind:
        for sample in samples:
            if values := sample.of(kind):
                figures = (sample.median(kind), percentile(values, 0.99), values[-1])
                cells = [f"{figure * 1e6:,.0f}" for figure in figures]
                table.add_row(kind.value, str(sample.size.workers), str(len(values)), *cells)
        table.add_section()
    return table


def _clusters_table(samples: Sequence[Sample]) -> Table:
    table = Table(title="Clusters")
    for column in ("nodes", "workers", "models", "residency", "memory of the view", "decisions per second"):
        table.add_column(column, justify="right")
    for sample in samples:
        size = sample.size
        memory, rate = f"{sample.memory_bytes / 2**20:,.1f} MiB", f"{sample.decisions_per_second:,.0f}"
        table.add_row(str(size.nodes), str(size.workers), str(size.models), str(size.residency), memory, rate)
    return table


def _cluster_values(sample: Sample) -> dict[str, Any]:
    return {
        **dataclasses.asdict(sample.size),
        "memory_bytes": sample.memory_bytes,
        "decisions_per_second": sample.decisions_per_second,
        "kinds": {kind.name.lower(): _kind_values(sample, kind) for kind in Kind if kind in sample.seconds},
    }


def _kind_values(sample: Sample, kind: Kind) -> dict[str, float]:
    values = sample.of(kind)
    return {
        "events": len(values),
        "p50_ms": percentile(values, 0.5) * 1e3,
        "p99_ms": percentile(values, 0.99) * 1e3,
        "most_ms": values[-1] * 1e3,
    }

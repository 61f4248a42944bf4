"""What `kindling simulate` does: draw workloads, run every policy on each, print and write."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from kindling.platform.errors import InvalidArgumentError
from kindling.scheduler.domain.values import ModelSettings
from kindling.simulate.experiment import Setup, Variant, run
from kindling.simulate.lengths import TracedLengths, lengths_named
from kindling.simulate.model_profiles import model_profile
from kindling.simulate.node_profiles import node_profile
from kindling.simulate.options import SimulateOptions
from kindling.simulate.policies import PolicyName
from kindling.simulate.redraw import redraw
from kindling.simulate.replay import replay
from kindling.simulate.report import cells_table
from kindling.simulate.results import Cell, as_values, cell
from kindling.simulate.traces import load_trace
from kindling.simulate.workload import Workload

Say = Callable[[str], None]


def compare(options: SimulateOptions, say: Say, console: Console, json_path: Path | None) -> None:
    """Run all policies and report.

    Raises:
        KindlingError: what the catalogues, the trace or ``experiment.run`` have to say against the options.
    """
    workloads = draw_workloads(options)
    cells = run_cells(options, workloads, say)
    requests = cells[0].requests
    reached_cv = sum(workload.gap_cv for workload in workloads) / len(workloads)
    console.print(cells_table(cells, options.price_per_device_hour))
    console.print(f"[dim]{requests:,.0f} requests; coefficient of variation of a model's gaps: {reached_cv:.1f}[/]")
    if json_path is not None:
        taken_with = {
            "requests": requests,
            "gap_cv": reached_cv,
            "options": asdict(options) | {"mechanisms": sorted(options.mechanisms)},
        }
        json_path.write_text(json.dumps(as_values(cells, taken_with), indent=2))


def draw_workloads(options: SimulateOptions) -> list[Workload]:
    """Return one workload for each seed.

    Raises:
        InvalidArgumentError: LENGTHS_NOT_DRAWN, and what the trace and the drawing refuse.
    """
    trace = load_trace(options.trace)
    names = [f"model-{number}" for number in range(options.models)]
    if not options.cv:
        if options.lengths:
            message = "The requests of a trace keep their lengths; give a coefficient of variation to draw them anew."
            raise InvalidArgumentError(message, reason="LENGTHS_NOT_DRAWN", field="lengths")
        return [replay(trace, names, zipf=options.zipf, seed=seed) for seed in range(options.seeds)]
    drawn = lengths_named(options.lengths) if options.lengths else TracedLengths.of(trace)
    seconds = trace.duration_seconds
    return [
        redraw(trace, names, cv=options.cv, zipf=options.zipf, lengths=drawn, seed=seed, duration_seconds=seconds)
        for seed in range(options.seeds)
    ]


def run_cells(options: SimulateOptions, workloads: Sequence[Workload], say: Say) -> list[Cell]:
    """Return the figures of every policy on the same workloads."""
    node = node_profile(options.node)
    settings = ModelSettings(
        concurrency_target=options.concurrency_target, keep_alive_seconds=options.keep_alive_seconds
    )
    setup = Setup(node, options.nodes, model_profile(options.model, node.device_kind), settings)
    cells = []
    for policy in options.policies:
        say(policy.value)
        variant = Variant(policy, options.mechanisms if policy is PolicyName.FULL else frozenset())
        runs = [run(variant, workload, setup, seed) for seed, workload in enumerate(workloads)]
        cells.append(cell(variant, workloads[0].name, options.model, runs))
    return cells

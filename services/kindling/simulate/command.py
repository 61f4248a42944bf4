"""What `kindling simulate` does: draw workloads, run every policy on each, print and write."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from kindling.platform.errors import InvalidArgumentError
from kindling.scheduler.domain.values import ModelSettings
from kindling.simulate.experiment import Setup, Variant, run
from kindling.simulate.lengths import TracedLengths, lengths_named
from kindling.simulate.measured import read_measured
from kindling.simulate.model_profiles import ModelProfile, model_profile
from kindling.simulate.node_profiles import NodeProfile, node_profile
from kindling.simulate.options import SimulateOptions
from kindling.simulate.paper_suite import PaperOptions, run_paper_suite
from kindling.simulate.paper_tables import goals_table, goals_values, paper_ratios, paper_table, policies_table
from kindling.simulate.policies import PolicyName
from kindling.simulate.redraw import redraw
from kindling.simulate.replay import replay
from kindling.simulate.report import cells_tables
from kindling.simulate.report_files import write_report
from kindling.simulate.results import Cell, as_values, by_workload, cell, least_ratio
from kindling.simulate.text_table import TextTable
from kindling.simulate.traces import load_trace
from kindling.simulate.workload import Workload

_ENDLESS: Final = 2**31 - 1
"""Requests that may wait. Baselines know no bound, and whom a full queue turns away at once has not waited for long."""
Say = Callable[[str], None]
Values = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Output:
    """Where the figures go besides the terminal, if anywhere."""

    json_path: Path | None = None
    report_directory: Path | None = None


def compare(options: SimulateOptions, say: Say, console: Console, output: Output) -> None:
    """Run all policies and report.

    Raises:
        KindlingError: what the catalogues, the trace or ``experiment.run`` have to say against the options.
    """
    workloads = draw_workloads(options)
    cells = run_cells(options, workloads, say)
    reached_cv = sum(workload.gap_cv for workload in workloads) / len(workloads)
    tables = cells_tables(cells, options.price_per_device_hour)
    notes = [*_notes(options, cells), f"coefficient of variation of the gaps of a model: {reached_cv:.1f}"]
    for table in tables:
        console.print(table.rich())
        console.print()
    for note in notes:
        console.print(f"· {note}", markup=False, soft_wrap=True)
    taken_with = {"requests": cells[0].requests, "gap_cv": reached_cv, "options": _options_values(options)}
    _write(output, cells, tables, as_values(cells, taken_with), notes, options.price_per_device_hour)


def reproduce(options: PaperOptions, price_per_device_hour: float, say: Say, console: Console, output: Output) -> None:
    """Run the paper's evaluation, and report it beside what was published.

    Raises InvalidArgumentError as ``redraw`` does.
    """
    cells = list(run_paper_suite(options, say))
    ratios = paper_ratios(cells)
    tables = [
        paper_table(cells),
        policies_table(cells, "mean_seconds", "Mean startup latency"),
        policies_table(cells, "p99_seconds", "P99 of the startup latency"),
        goals_table(ratios),
        *(table for of_one in by_workload(cells) for table in cells_tables(of_one, price_per_device_hour)),
    ]
    for table in tables[:4]:
        console.print(table.rich())
        console.print()
    values = as_values(cells, {"options": asdict(options)}) | {"ratios": ratios, "goals": goals_values(ratios)}
    note = f"{options.rate:g} requests/s for {options.duration_seconds:g} s, {options.seeds} workloads"
    _write(output, cells, tables, values, [note], price_per_device_hour)


def _notes(options: SimulateOptions, cells: Sequence[Cell]) -> list[str]:
    """What came of it in a sentence, and what was simulated."""
    ratio = least_ratio(cells, "mean_seconds")
    found = [] if ratio is None else [f"the best baseline's mean is {ratio:.2f} times that of full"]
    drawn = f"{options.seeds} workloads" if options.seeds > 1 else "1 workload"
    parts = (
        f"{options.models} models of {cells[0].model} on {options.nodes} nodes of {_node_name(options)}",
        f"keep-alive {options.keep_alive_seconds:g} s",
        f"{options.concurrency_target} generations at once in an instance",
        f"{drawn} of {cells[0].requests:,.0f} requests",
    )
    return [*found, "; ".join(parts)]


def _node_name(options: SimulateOptions) -> str:
    return options.node if options.measured is None else f"{options.measured}, as measured"


def _write(
    output: Output, cells: Sequence[Cell], tables: Sequence[TextTable], values: Values, notes: list[str], price: float
) -> None:
    if output.json_path is not None:
        output.json_path.write_text(json.dumps(values, indent=2))
    if output.report_directory is not None:
        write_report(output.report_directory, cells, tables, notes, price)


def _options_values(options: SimulateOptions) -> Values:
    measured = str(options.measured) if options.measured else None
    return asdict(options) | {"mechanisms": sorted(options.mechanisms), "measured": measured}


def draw_workloads(options: SimulateOptions) -> list[Workload]:
    """Return one workload for each seed.

    Raises:
        InvalidArgumentError: LENGTHS_NOT_DRAWN, RATE_NOT_DRAWN, and what the trace and the drawing refuse, such as
            DURATION_INVALID.
    """
    if options.rate and not options.cv:
        message = "A rate is drawn from; give a coefficient of variation with it, 1 for a Poisson process."
        raise InvalidArgumentError(message, reason="RATE_NOT_DRAWN", field="rate")
    trace = load_trace(options.trace)
    names = [f"model-{number}" for number in range(options.models)]
    if not options.cv:
        if options.lengths:
            message = "The requests of a trace keep their lengths; give a coefficient of variation to draw them anew."
            raise InvalidArgumentError(message, reason="LENGTHS_NOT_DRAWN", field="lengths")
        if options.duration_seconds:
            trace = trace.beginning(options.duration_seconds)
        return [replay(trace, names, zipf=options.zipf, seed=seed) for seed in range(options.seeds)]
    drawn = lengths_named(options.lengths) if options.lengths else TracedLengths.of(trace)
    source, seconds = options.rate or trace, options.duration_seconds or trace.duration_seconds
    return [
        redraw(source, names, cv=options.cv, zipf=options.zipf, lengths=drawn, seed=seed, duration_seconds=seconds)
        for seed in range(options.seeds)
    ]


def machine_and_model(options: SimulateOptions) -> tuple[NodeProfile, ModelProfile]:
    """Return what was measured, else what the catalogues say.

    Raises:
        KindlingError: what ``read_measured``, ``node_profile`` or ``model_profile`` raise.
    """
    if options.measured is not None:
        return read_measured(options.measured)
    node = node_profile(options.node)
    return node, model_profile(options.model, node.device_kind)


def run_cells(options: SimulateOptions, workloads: Sequence[Workload], say: Say) -> list[Cell]:
    """Return the figures of every policy on the same workloads."""
    node, model = machine_and_model(options)
    settings = ModelSettings(
        concurrency_target=options.concurrency_target,
        keep_alive_seconds=options.keep_alive_seconds,
        max_queued_requests=_ENDLESS,
    )
    setup = Setup(node, options.nodes, model, settings)
    cells = []
    for policy in options.policies:
        say(policy.value)
        variant = Variant(policy, options.mechanisms if policy is PolicyName.FULL else frozenset())
        runs = [run(variant, workload, setup, seed) for seed, workload in enumerate(workloads)]
        cells.append(cell(variant, workloads[0].name, model.name, runs))
    return cells

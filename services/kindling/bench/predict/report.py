"""The benchmark's table and its JSON."""

import dataclasses
from collections.abc import Callable
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from kindling.bench.goals import goals_table, goals_values
from kindling.bench.machine import machine
from kindling.bench.predict.goals import GOALS, P99, ratios
from kindling.bench.predict.options import PredictOptions
from kindling.bench.predict.results import Results, Startups
from kindling.scheduler.domain.values import Tier

REAL = (
    "startup: how much later a client had the first token than from a running instance, whose time was measured before "
    "with one request at a time; what requests cost each other is in the real figures alone"
)
PROFILE = (
    "profile, all before the replay: links and init as the scheduler estimates, parked starts, prefill and seconds "
    "per token by a client; prefetching is off, which the simulator does not have"
)
SAME = (
    "the simulator gets every request at the moment at which it really came, those of the calibration included; "
    "both begin with every model on the SSD alone"
)
NOTES = (REAL, PROFILE, SAME)
_FIGURES: tuple[tuple[str, Callable[[Startups], float]], ...] = (
    ("mean", lambda one: one.mean),
    ("P50", lambda one: one.quantile(0.5)),
    ("P95", lambda one: one.quantile(0.95)),
    ("P99", lambda one: one.quantile(P99)),
)


def as_json(results: Results, options: PredictOptions) -> bytes:
    """Everything, for other programs and for later."""
    found = ratios(results)
    document = {
        "ratios": found,
        "goals": goals_values(found, GOALS),
        "real": _values(results.real),
        "simulated": _values(results.simulated),
        "profile": _profile_values(results),
        "workload": {"name": results.workload, "gap_cv": results.gap_cv},
        "options": dataclasses.asdict(options),
        "machine": machine(),
        "notes": NOTES,
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2)


def print_report(results: Results, console: Console) -> None:
    """Print real beside simulated, the ratios beside their goals, and notes."""
    console.print(_table(results))
    console.print(goals_table(ratios(results), GOALS))
    profile, calibration = results.profile, results.profile.calibration
    console.print(
        f"· profile: SSD {profile.links[Tier.SSD] / 1e6:.1f} MB/s, init {profile.init_seconds:.3f} s, parked "
        f"{calibration.parked_seconds:.3f} s, {1000 * calibration.seconds_per_token:.1f} ms per token, prefill "
        f"{calibration.prefill_tokens_per_second:,.0f} tokens/s",
        soft_wrap=True,
    )
    for note in NOTES:
        console.print(f"· {note}", soft_wrap=True, markup=False)


def _table(results: Results) -> Table:
    real, simulated = results.real, results.simulated
    table = Table(title=f"Startup seconds of {len(real.seconds)} requests: {results.workload}")
    for column in ("", "real", "simulated"):
        table.add_column(column, justify="right" if column else "left")
    for name, figure in _FIGURES:
        table.add_row(name, f"{figure(real):.3f}", f"{figure(simulated):.3f}")
    table.add_section()
    for tier in Tier:
        counts = [one.starts_by_tier.get(tier, 0) for one in (real, simulated)]
        table.add_row("starts, parked" if tier is Tier.GPU else f"starts from {tier.name}", *map(str, counts))
    return table


def _values(startups: Startups) -> dict[str, Any]:
    figures = {f"{name.lower()}_seconds": figure(startups) for name, figure in _FIGURES}
    starts = {tier.name: startups.starts_by_tier.get(tier, 0) for tier in Tier}
    return {**figures, "starts_by_tier": starts, "startup_seconds": startups.seconds}


def _profile_values(results: Results) -> dict[str, Any]:
    profile = results.profile
    links = {tier.name: speed for tier, speed in profile.links.items()}
    return {"links": links, "init_seconds": profile.init_seconds, **dataclasses.asdict(profile.calibration)}

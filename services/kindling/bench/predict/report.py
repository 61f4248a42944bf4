"""The benchmark's table and its JSON."""

import dataclasses
from collections.abc import Callable
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from kindling.bench.goals import Ratio, goals_table, goals_values
from kindling.bench.machine import machine
from kindling.bench.predict.goals import GOALS, P99, ratios, simulation_errors
from kindling.bench.predict.options import PredictOptions
from kindling.bench.predict.profile import Profile
from kindling.bench.predict.results import Replay, Results, Startups
from kindling.scheduler.domain.values import Tier
from kindling.simulate.measured import measured_values

REAL = (
    "startup: how much later a client had the first token than from a running instance, whose time was measured before "
    "with one request at a time"
)
PROFILE = (
    "profile, all before the replay: links and init as the scheduler estimates, parked starts, prefill and seconds "
    "per token, alone and in a crowd, by a client; prefetching is off in both"
)
ESTIMATES = (
    "estimate_error_median: what the real scheduler decided by, over what came of it, of every start of the replay, "
    "from the decision until the last chunk was there"
)
SAME = (
    "the simulator gets every request at the moment at which it really came, those of the calibration included; "
    "both begin with every model on the SSD alone"
)
NOTES = (REAL, PROFILE, ESTIMATES, SAME)
_FIGURES: tuple[tuple[str, Callable[[Startups], float]], ...] = (
    ("mean", lambda one: one.mean),
    ("P50", lambda one: one.quantile(0.5)),
    ("P95", lambda one: one.quantile(0.95)),
    ("P99", lambda one: one.quantile(P99)),
)


def as_json(results: Results, options: PredictOptions) -> bytes:
    """Everything, for other programs and for later; ``measured`` is of the last seed, for `kindling simulate`."""
    found, last = ratios(results), results.replays[-1].setup
    document = {
        "ratios": found,
        "goals": goals_values(found, GOALS),
        "real": _values(results.real),
        "simulated": _values(results.simulated),
        "seeds": [_replay_values(replay) for replay in results.replays],
        "measured": measured_values(last.node, last.model),
        "options": dataclasses.asdict(options),
        "machine": machine(),
        "notes": NOTES,
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2)


def print_report(results: Results, console: Console) -> None:
    """Print real beside simulated, by seed and all together, the ratios beside their goals, and notes."""
    for replay in results.replays:
        title = f"Startup seconds of {len(replay.real.seconds)} requests, seed {replay.seed}: {replay.workload}"
        console.print(_table(title, replay.real, replay.simulated))
        _print_profile(replay, console)
    if len(results.replays) > 1:
        title = f"Startup seconds of all {len(results.real.seconds)} requests"
        console.print(_table(title, results.real, results.simulated))
    console.print(goals_table(ratios(results), GOALS))
    for note in NOTES:
        console.print(f"· {note}", soft_wrap=True, markup=False)


def _print_profile(replay: Replay, console: Console) -> None:
    profile, calibration = replay.profile, replay.profile.calibration
    console.print(
        f"· profile: SSD {profile.links[Tier.SSD] / 1e6:.1f} MB/s, init {profile.init_seconds:.3f} s, parked "
        f"{calibration.parked_seconds:.3f} s, {1000 * calibration.seconds_per_token:.1f} ms per token and "
        f"{1000 * calibration.seconds_per_token_beside:.2f} ms more for each other generation, prefill "
        f"{calibration.prefill_tokens_per_second:,.0f} tokens/s",
        soft_wrap=True,
    )


def _table(title: str, real: Startups, simulated: Startups) -> Table:
    table = Table(title=title)
    for column in ("", "real", "simulated"):
        table.add_column(column, justify="right" if column else "left")
    for name, figure in _FIGURES:
        table.add_row(name, f"{figure(real):.3f}", f"{figure(simulated):.3f}")
    errors = ", ".join(f"{name} {_percent(found)}" for name, found in simulation_errors(real, simulated).items())
    table.caption = errors.replace("_", " ")
    table.add_section()
    for tier in Tier:
        counts = [one.starts_by_tier.get(tier, 0) for one in (real, simulated)]
        table.add_row("starts, parked" if tier is Tier.GPU else f"starts from {tier.name}", *map(str, counts))
    return table


def _values(startups: Startups) -> dict[str, Any]:
    figures = {f"{name.lower()}_seconds": figure(startups) for name, figure in _FIGURES}
    starts = {tier.name: startups.starts_by_tier.get(tier, 0) for tier in Tier}
    return {**figures, "starts_by_tier": starts, "startup_seconds": startups.seconds}


def _percent(found: Ratio) -> str:
    return found if isinstance(found, str) else f"{found:.1%}"


def _replay_values(replay: Replay) -> dict[str, Any]:
    return {
        "seed": replay.seed,
        "ratios": ratios(Results((replay,))),
        "real": _values(replay.real),
        "simulated": _values(replay.simulated),
        "estimate_errors": {tier.name: errors for tier, errors in replay.estimate_errors.items()},
        "profile": _profile_values(replay.profile),
        "workload": {"name": replay.workload, "gap_cv": replay.gap_cv},
    }


def _profile_values(profile: Profile) -> dict[str, Any]:
    links = {tier.name: speed for tier, speed in profile.links.items()}
    return {"links": links, "init_seconds": profile.init_seconds, **dataclasses.asdict(profile.calibration)}

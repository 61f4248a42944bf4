"""The paper's figures beside the simulator's."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from kindling.simulate.paper_suite import LENGTHS, MODELS, PUBLISHED_SECONDS, SYSTEMS
from kindling.simulate.policies import PolicyName
from kindling.simulate.results import Cell, by_workload, least_ratio
from kindling.simulate.text_table import TextTable

GOALS: Final = {
    "best_baseline_over_full_min": 1.0,
    "best_baseline_over_full_p99_min": 1.0,
    "download_over_full_min": 10.0,
    "paper_over_full_min": 1.0,
}
"""What the ratios are to be at least."""
_COLUMNS = ("", *(f"{model}\n{lengths}" for lengths in LENGTHS for model in MODELS))


def paper_table(cells: Sequence[Cell]) -> TextTable:
    """Return the means of the paper's systems, published and simulated."""
    rows = []
    for system, policy in SYSTEMS.items():
        published = [seconds for lengths in LENGTHS for seconds in PUBLISHED_SECONDS[lengths][system]]
        rows.append((f"{system}, paper", *(f"{seconds:.1f} s" for seconds in published)))
        rows.append((f"{system}, simulated", *_seconds(cells, policy, "mean_seconds")))
    return TextTable("Mean startup latency, paper beside simulator", _COLUMNS, rows)


def policies_table(cells: Sequence[Cell], figure: str, title: str) -> TextTable:
    """Return a figure of every policy on every workload."""
    policies = dict.fromkeys(one.policy for one in cells)
    return TextTable(title, _COLUMNS, [(policy, *_seconds(cells, policy, figure)) for policy in policies])


def paper_ratios(cells: Sequence[Cell]) -> Mapping[str, float]:
    """How often the full policy's figures go into others, the smallest over all cells."""
    ratios = {
        "best_baseline_over_full_min": least_ratio(cells, "mean_seconds"),
        "best_baseline_over_full_p99_min": least_ratio(cells, "p99_seconds"),
        "download_over_full_min": min(_over_full(cells, PolicyName.DOWNLOAD), default=None),
        "paper_over_full_min": min(_published_over_full(cells), default=None),
    }
    return {name: ratio for name, ratio in ratios.items() if ratio is not None}


def goals_table(ratios: Mapping[str, float]) -> TextTable:
    """Return the ratios beside their goals."""
    rows = [(name, f"{ratio:.2f}", f"≥ {GOALS[name]:g}", _verdict(name, ratio)) for name, ratio in ratios.items()]
    return TextTable("Goals", ("figure", "measured", "goal", "reached"), rows)


def goals_values(ratios: Mapping[str, float]) -> dict[str, dict[str, str]]:
    """Return the goals for a JSON."""
    return {name: {"goal": f"≥ {GOALS[name]:g}", "reached": _verdict(name, ratio)} for name, ratio in ratios.items()}


def _verdict(name: str, ratio: float) -> str:
    return "yes" if ratio >= GOALS[name] else "NO"


def _seconds(cells: Sequence[Cell], policy: str, figure: str) -> list[str]:
    found = {(one.workload, one.model): getattr(one, figure) for one in cells if one.policy == policy}
    return [f"{found[lengths, model]:.2f} s" for lengths in LENGTHS for model in MODELS]


def _over_full(cells: Sequence[Cell], policy: PolicyName) -> Iterator[float]:
    for of_one in by_workload(cells):
        means = {one.policy: one.mean_seconds for one in of_one}
        if means[PolicyName.FULL]:
            yield means[policy] / means[PolicyName.FULL]


def _published_over_full(cells: Sequence[Cell]) -> Iterator[float]:
    for one in cells:
        if one.policy == PolicyName.FULL and one.mean_seconds:
            published = PUBLISHED_SECONDS[one.workload]["ServerlessLLM"]
            yield published[list(MODELS).index(one.model)] / one.mean_seconds

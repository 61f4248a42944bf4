"""Figures to reach, and what was reached."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

Ratio = float | str
"""A number, or why there is none."""


@dataclass(frozen=True, slots=True)
class Goal:
    """``key`` must be at least, or else at most, ``limit``."""

    key: str
    limit: float
    at_least: bool

    @property
    def text(self) -> str:
        """As people write it."""
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}"

    def reached(self, ratio: Ratio) -> bool | None:
        """Whether a ratio reaches the goal; None if there is no number."""
        if isinstance(ratio, str):
            return None
        return ratio >= self.limit if self.at_least else ratio <= self.limit


def goals_values(found: Mapping[str, Ratio], goals: Sequence[Goal]) -> dict[str, Any]:
    """The goals for a JSON: of each that has a ratio, what it is and whether it was reached."""
    return {
        goal.key: {"goal": goal.text, "reached": goal.reached(found[goal.key])} for goal in goals if goal.key in found
    }


def goals_table(found: Mapping[str, Ratio], goals: Sequence[Goal], digits: str = ".2f") -> Table:
    """Ratios beside their goals, with so many digits; a ratio without a goal stands by itself."""
    table = Table(title="Goals")
    for column in ("figure", "measured", "goal", "reached"):
        table.add_column(column, justify="left" if column == "figure" else "right")
    verdicts = {True: "yes", False: "NO", None: "–"}
    by_key = {goal.key: goal for goal in goals}
    for key, ratio in found.items():
        goal = by_key.get(key)
        measured = ratio if isinstance(ratio, str) else f"{ratio:{digits}}"
        table.add_row(key, measured, goal.text if goal else "", verdicts[goal.reached(ratio)] if goal else "")
    return table

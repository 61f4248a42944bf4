"""Whom to have leave a device, so that a model fits: the cheapest set of them, by dynamic programming."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kindling.scheduler.domain.decisions import Step

_MOST = 12  # who is thought of on a device, those with the most memory first: the rows are 2**12 at worst


@dataclass(frozen=True, slots=True)
class Victim:
    """Somebody on a device whose leaving, by ``step``, frees memory after so many ``seconds``; others lose so many by
    it."""

    step: Step
    freed_bytes: int
    seconds: float = 0.0
    harm_seconds: float = 0.0

    @property
    def cost_seconds(self) -> float:
        """By which victims are compared: what all who wait, or will, lose together."""
        return self.seconds + self.harm_seconds


@dataclass(frozen=True, slots=True)
class VictimSet:
    """Victims that leave a device one after the other; none of them if it has room as it is."""

    victims: tuple[Victim, ...] = ()
    freed_bytes: int = 0
    cost_seconds: float = 0.0

    def joined_by(self, victim: Victim) -> "VictimSet":
        """The set with one more."""
        return VictimSet(
            (*self.victims, victim), self.freed_bytes + victim.freed_bytes, self.cost_seconds + victim.cost_seconds
        )


def cheapest_set(victims: Sequence[Victim], needed_bytes: float) -> VictimSet | None:
    """Return the set of least total cost, of one victim at least, that frees so many bytes; none if not even all do.

    A knapsack turned round: with each victim thought of, there is a row for each amount of memory that those before
    could free, and in it the cheapest set that does. Sums are exact, so a set never frees less than it says; a row goes
    if another frees as much and costs no more.
    """
    rows: list[VictimSet] = []
    for victim in sorted(victims, key=lambda one: -one.freed_bytes)[:_MOST]:
        joined = [row.joined_by(victim) for row in (VictimSet(), *rows)]
        rows = _worthwhile([*rows, *joined], needed_bytes)
    return next((row for row in rows if row.freed_bytes >= needed_bytes), None)


def _worthwhile(rows: Sequence[VictimSet], needed_bytes: float) -> list[VictimSet]:
    """The rows that free more than all which cost less, the cheapest first; beyond what is needed, more is not more."""
    kept: list[VictimSet] = []
    for row in sorted(rows, key=lambda one: (one.cost_seconds, -one.freed_bytes, len(one.victims))):
        if not kept or kept[-1].freed_bytes < min(row.freed_bytes, needed_bytes):
            kept.append(row)
    return kept


def cheapest_devices(sets: Mapping[str, VictimSet | None], count: int) -> dict[str, VictimSet] | None:
    """Return the ``count`` devices that cost least to clear, each with its set; none if fewer can be cleared.

    What one device costs does not depend on the others, so that the least total is that of the least ones.
    """
    possible = [(victims.cost_seconds, name, victims) for name, victims in sets.items() if victims is not None]
    chosen = sorted(possible, key=lambda one: one[:2])[:count]
    return {name: victims for _, name, victims in chosen} if len(chosen) == count else None

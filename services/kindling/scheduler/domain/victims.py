"""Which instances of a worker leave so that enough of its device's memory is free, at the least cost: a knapsack."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kindling.scheduler.domain.decisions import Departure

MOST = 12
"""Victims that are looked at together; of more, those with the most bytes, which suffice if any so many do."""


@dataclass(frozen=True, slots=True)
class Victim:
    """An instance that could leave: its bytes, the seconds that others lose by it, and those until it is gone."""

    departure: Departure
    freed_bytes: int
    harm_seconds: float
    delay_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class VictimSet:
    """Victims that leave at once: the harm of each is done, and all are gone when the last one is."""

    victims: tuple[Victim, ...] = ()
    freed_bytes: int = 0
    harm_seconds: float = 0.0
    delay_seconds: float = 0.0

    @property
    def cost(self) -> tuple[float, int]:
        """By which sets are compared: seconds, and of equal ones how many leave."""
        return self.delay_seconds + self.harm_seconds, len(self.victims)

    @property
    def harm(self) -> tuple[float, int]:
        """By which sets are compared to which the same victims are to be added, none of them gone sooner."""
        return self.harm_seconds, len(self.victims)

    def with_one(self, victim: Victim) -> "VictimSet":
        """The set with a further victim."""
        return VictimSet(
            (*self.victims, victim),
            self.freed_bytes + victim.freed_bytes,
            self.harm_seconds + victim.harm_seconds,
            max(self.delay_seconds, victim.delay_seconds),
        )


def cheapest(victims: Sequence[Victim], missing_bytes: int) -> VictimSet | None:
    """Return the set of least cost that frees at least ``missing_bytes``, which is more than 0; none if all do not.

    The dynamic programme goes through the victims, the soonest gone first. Of the sets of those before, it keeps one
    for each number of bytes freed: the one that does the least harm, unless another frees more and does no more. Each
    victim in turn is the last to be gone of the sets that it completes, so its delay is theirs. Bytes are not rounded,
    so that nothing is missed that just suffices; there are at most two to the power of ``MOST`` sets, and far fewer
    where instances of the same size are alike.
    """
    best: VictimSet | None = None
    kept = [VictimSet()]
    for victim in sorted(_largest(victims), key=lambda victim: victim.delay_seconds):
        longer = [one.with_one(victim) for one in kept]
        enough = (one for one in longer if one.freed_bytes >= missing_bytes)
        best = min(enough if best is None else (best, *enough), key=lambda one: one.cost, default=None)
        kept = _worth_keeping([*kept, *(one for one in longer if one.freed_bytes < missing_bytes)])
    return best


def _largest(victims: Sequence[Victim]) -> Sequence[Victim]:
    return sorted(victims, key=lambda victim: -victim.freed_bytes)[:MOST]


def _worth_keeping(sets: Iterable[VictimSet]) -> list[VictimSet]:
    """Those that no other betters: one that frees as much or more, and does no more harm."""
    kept: list[VictimSet] = []
    for one in sorted(sets, key=lambda one: (-one.freed_bytes, one.harm)):
        if not kept or one.harm < kept[-1].harm:
            kept.append(one)
    return kept

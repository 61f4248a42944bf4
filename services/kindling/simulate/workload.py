"""A workload: which requests come when, for which model, and how long they are."""

import math
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, pstdev


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request for a model, ``at_seconds`` after the workload's beginning."""

    at_seconds: float
    model: str
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Workload:
    """Arrivals by time, all within ``duration_seconds``, each for one of ``models``; a model may get none."""

    name: str
    arrivals: tuple[Arrival, ...]
    models: tuple[str, ...]
    duration_seconds: float

    def __post_init__(self) -> None:
        assert all(one.at_seconds <= other.at_seconds for one, other in pairwise(self.arrivals)), "not by time"
        assert {arrival.model for arrival in self.arrivals} <= set(self.models), "a model that is not listed"

    @property
    def gap_cv(self) -> float:
        """The coefficient of variation of the gaps between a model's arrivals that was reached; 0 without gaps.

        Each model's gaps are measured in its own mean gap, so that popularity adds nothing; over the models it is the
        root of the mean of squares, weighted by gaps. Computed anew at each call. A finite draw reaches less than what
        it was drawn with: the rare long gaps are what makes it.
        """
        gaps = [gaps for gaps in self._gaps() if sum(gaps) > 0]
        count = sum(len(of_model) for of_model in gaps)
        squares = sum(len(of_model) * (pstdev(of_model) / fmean(of_model)) ** 2 for of_model in gaps)
        return math.sqrt(squares / count) if count else 0.0

    def _gaps(self) -> list[list[float]]:
        times: dict[str, list[float]] = defaultdict(list)
        for arrival in self.arrivals:
            times[arrival.model].append(arrival.at_seconds)
        return [[later - earlier for earlier, later in pairwise(of_model)] for of_model in times.values()]

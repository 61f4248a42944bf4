"""Divergences, summed up by type of number and way of choosing."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kindling.bench.migrate.results import Divergence


@dataclass(frozen=True, slots=True)
class DivergenceRow:
    """Of ``generations``, ``diverged`` went on with another token, in the median after ``median_same_tokens``."""

    dtype: str
    sampling: str
    generations: int
    diverged: int
    median_same_tokens: float | None

    @property
    def rate(self) -> float:
        """The share that went on otherwise."""
        return self.diverged / self.generations


def divergence_rows(divergences: Sequence[Divergence]) -> Iterator[DivergenceRow]:
    """Yield a row for each type and way, in the order in which they were measured."""
    for dtype, greedy in dict.fromkeys((one.dtype, one.greedy) for one in divergences):
        same = [one.same_tokens for one in divergences if (one.dtype, one.greedy) == (dtype, greedy)]
        found = [tokens for tokens in same if tokens is not None]
        middle = statistics.median(found) if found else None
        yield DivergenceRow(dtype, "greedy" if greedy else "drawn", len(same), len(found), middle)

"""How long requests are: sets of prompt and output lengths, in tokens, that a workload draws from."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Protocol, Self

import numpy as np

from kindling.platform.errors import NotFoundError
from kindling.simulate.traces import PACKAGED_TRACES, Trace, load_trace


class Lengths(Protocol):
    """Where a workload's lengths come from."""

    @property
    def name(self) -> str:
        """What the report calls them."""
        ...

    def draw(self, rng: np.random.Generator) -> tuple[int, int]:
        """Return prompt and output tokens of a request, 1 or more of each."""
        ...


@dataclass(frozen=True, slots=True)
class TracedLengths:
    """Pairs as they were recorded, each as likely as any other: what belongs together stays together."""

    name: str
    pairs: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, trace: Trace) -> Self:
        """The lengths of a trace's requests."""
        return cls(trace.name, tuple((one.prompt_tokens, one.output_tokens) for one in trace.requests))

    def draw(self, rng: np.random.Generator) -> tuple[int, int]:
        """Return one of the pairs."""
        return self.pairs[int(rng.random() * len(self.pairs))]


@dataclass(frozen=True, slots=True)
class InverseCdf:
    """A length for each probability: it goes through ``knots`` and between two of them by a power.

    From knot (p, a) to knot (q, b), the length at u is a + (b - a) · ((u - p) / (q - p)) ** ``bend``, the same bend
    everywhere. It rises from knot to knot, whatever the bend.
    """

    knots: tuple[tuple[float, float], ...]
    bend: float

    @classmethod
    def fit(cls, mean: float, p50: float, p90: float, p99: float) -> Self:
        """Return the one through the quantiles with the given mean.

        The shortest length is 1 token; the longest, which nobody states, is taken to be as far above the 99th
        percentile as that is above the 90th. The mean of a segment is a + (b - a) / (1 + bend), so that the bend
        which yields the mean of the whole has a closed form.
        """
        knots = ((0.0, 1.0), (0.5, p50), (0.9, p90), (0.99, p99), (1.0, 2 * p99 - p90))
        floor = sum((q - p) * a for (p, a), (q, _) in pairwise(knots))
        rise = sum((q - p) * (b - a) for (p, a), (q, b) in pairwise(knots))
        assert floor < mean < floor + rise, "no distribution has these quantiles and this mean"
        return cls(knots, bend=rise / (mean - floor) - 1)

    def at(self, probability: float) -> float:
        """Return the length that this share of all is not longer than, for a probability from 0 to 1."""
        (p, a), (q, b) = next(pair for pair in pairwise(self.knots) if probability <= pair[1][0])
        return float(a + (b - a) * math.pow((probability - p) / (q - p), self.bend))


@dataclass(frozen=True, slots=True)
class StatedLengths:
    """Lengths of which only mean and quantiles are known; prompt and output are drawn apart."""

    name: str
    prompt: InverseCdf
    output: InverseCdf

    def draw(self, rng: np.random.Generator) -> tuple[int, int]:
        """Return two lengths, independent of each other."""
        return round(self.prompt.at(rng.random())), round(self.output.at(rng.random()))


@dataclass(frozen=True, slots=True)
class FittedLengths:
    """Lengths cut to a model's context: first the output to leave room for a prompt, then the prompt."""

    lengths: Lengths
    context_tokens: int

    @property
    def name(self) -> str:
        """What they are and to how many tokens they are cut."""
        return f"{self.lengths.name} within {self.context_tokens}"

    def draw(self, rng: np.random.Generator) -> tuple[int, int]:
        """Return lengths that fit together."""
        prompt, output = self.lengths.draw(rng)
        output = min(output, self.context_tokens - 1)
        return min(prompt, self.context_tokens - output), output


STATED_LENGTHS: Final = {
    # Mean, 50th, 90th, 99th percentile, as counted over the data sets.
    "sharegpt": StatedLengths("sharegpt", InverseCdf.fit(2340, 1730, 5696, 7434), InverseCdf.fit(439, 415, 834, 998)),
    "gsm8k": StatedLengths("gsm8k", InverseCdf.fit(55, 51, 82, 120), InverseCdf.fit(121, 111, 192, 286)),
}
"""ShareGPT's conversations of several turns; GSM8K's training questions and their reference answers."""


def lengths_named(name: str) -> Lengths:
    """Return a set of lengths: of a packaged trace, or of ``STATED_LENGTHS``.

    Raises NotFoundError LENGTHS_UNKNOWN.
    """
    if name in PACKAGED_TRACES:
        return TracedLengths.of(load_trace(name))
    if (lengths := STATED_LENGTHS.get(name)) is None:
        message = f"There are no lengths {name!r}; there are {', '.join([*PACKAGED_TRACES, *STATED_LENGTHS])}."
        raise NotFoundError(message, reason="LENGTHS_UNKNOWN", metadata={"lengths": name})
    return lengths

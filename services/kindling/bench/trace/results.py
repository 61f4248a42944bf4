"""What was measured: pairs of passes, one without tracing and one with it, right after one another."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass of prompts through a worker: wall time between two tokens, and its process's CPU time for each of them
    with its share of the prompts."""

    step_seconds: float
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Pair:
    """The same pass with both workers, who differ in tracing alone."""

    plain: Pass
    traced: Pass


Figure = Callable[[Pass], float]


def overhead(pairs: Sequence[Pair], figure: Figure) -> float:
    """By how much of itself a figure grows with tracing: the median over all pairs, so that what disturbs a few passes
    counts for nothing. Below zero where noise hides it."""
    return statistics.median(figure(pair.traced) / figure(pair.plain) for pair in pairs) - 1


def step_seconds(one: Pass) -> float:
    """The figure of a decode step."""
    return one.step_seconds


def cpu_seconds(one: Pass) -> float:
    """The figure of a decode step's computing."""
    return one.cpu_seconds

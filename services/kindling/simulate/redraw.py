"""Arrivals redrawn to be as bursty as wished, at the mean rates of a trace or at a rate of one's own.

As in ServerlessLLM's evaluation: the gaps of a (model, window) are Gamma distributed, with the window's mean rate and a
given coefficient of variation (CV), shape 1/CV² and scale mean gap · CV². There, the functions of a trace were striped
over the models; here, a model has its share of each window's rate, an even one for a Zipf exponent of 0.

Two things that a naive redraw gets wrong at a CV of 8. Gaps are often longer than a window, and a window for itself
would cut them; here a gap that is not over goes on at the next window's rate. And gaps that begin with an arrival at 0
bring (CV² - 1) / 2 requests too many per model, 31 of them; here the beginning is an ordinary moment, so that the
number of requests has the right mean.

What is reached is for `Workload.gap_cv` to say. A trace whose own rate comes and goes adds to it: the hour of code
completion, whose minutes have from 0 to 632 requests, reaches 2.3 and more where a CV of 1 was asked for.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kindling.platform.errors import InvalidArgumentError
from kindling.simulate.lengths import Lengths
from kindling.simulate.popularity import shares
from kindling.simulate.traces import Trace
from kindling.simulate.workload import Arrival, Workload

WINDOW_SECONDS: Final = 60.0
"""How finely a trace's rate is followed."""
MOST_REQUESTS: Final = 10_000_000
"""Of a workload: more than fit into memory, or a day, with all that is kept of each."""
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Clock:
    """How many requests of all models are expected by when."""

    seconds: Floats
    expected: Floats

    def when(self, expected: Floats) -> Floats:
        """Return the times by which so many are expected."""
        return np.interp(expected, self.expected, self.seconds)


def redraw(
    source: Trace | float,
    models: Sequence[str],
    *,
    cv: float,
    zipf: float,
    lengths: Lengths,
    seed: int,
    duration_seconds: float,
) -> Workload:
    """Return arrivals at the rates of a trace's windows, or at so many per second over all models.

    The first model is the most popular. A seed gives the same workload each time; a model's arrivals depend on its
    place and its rate, not on those of the others.

    Raises InvalidArgumentError NO_MODELS, ZIPF_EXPONENT_INVALID, CV_INVALID, RATE_INVALID, TOO_MANY_REQUESTS, or
    DURATION_INVALID, which a duration beyond the trace's is too.
    """
    _require(1e-3 <= cv <= 1e3, "CV_INVALID", f"The coefficient of variation is {cv}; it must be from 0.001 to 1,000.")
    clock = _trace_clock(source, duration_seconds) if isinstance(source, Trace) else _clock(source, duration_seconds)
    arrivals: list[Arrival] = []
    for index, (model, share) in enumerate(zip(models, shares(len(models), zipf), strict=True)):
        rng = np.random.default_rng((seed, index))
        passed = _renewals(share * clock.expected[-1], cv, rng)
        arrivals += (Arrival(at, model, *lengths.draw(rng)) for at in clock.when(passed / share).tolist())
    return Workload(
        name=f"{_name(source)} redrawn, CV {cv:g}, Zipf {zipf:g}, {lengths.name}",
        arrivals=tuple(sorted(arrivals, key=lambda arrival: arrival.at_seconds)),
        models=tuple(models),
        duration_seconds=duration_seconds,
    )


def _renewals(expected: float, cv: float, rng: np.random.Generator) -> Floats:
    """Arrivals at a mean rate of 1 from 0 to ``expected``.

    At an ordinary moment, one stands in a gap that is likelier the longer it is, a Gamma of one more shape, and
    anywhere within it: the number of arrivals then has exactly the mean ``expected`` (the equilibrium renewal process).
    """
    shape, scale = 1 / cv**2, cv**2
    passed = np.array([rng.random() * rng.gamma(shape + 1, scale)])
    while passed[-1] < expected:
        gaps = rng.gamma(shape, scale, size=int(expected) + 100)
        passed = np.concatenate([passed, passed[-1] + np.cumsum(gaps)])
    return passed[passed < expected]


def _trace_clock(trace: Trace, duration_seconds: float) -> _Clock:
    trace.require_duration(duration_seconds)
    edges = np.append(np.arange(0, duration_seconds, WINDOW_SECONDS), duration_seconds)
    counts, _ = np.histogram([request.at_seconds for request in trace.requests], edges)
    return _Clock(edges, np.append(0.0, np.cumsum(counts)))


def _clock(rate: float, duration_seconds: float) -> _Clock:
    valid_rate, valid_duration = (math.isfinite(one) and one > 0 for one in (rate, duration_seconds))
    _require(valid_rate, "RATE_INVALID", f"The rate is {rate} requests per second; it must be a finite number above 0.")
    _require(
        valid_duration, "DURATION_INVALID", f"The duration is {duration_seconds} s; it must be a finite number above 0."
    )
    what = f"{rate:g} requests per second for {duration_seconds:g} s are more than {MOST_REQUESTS:,}"
    _require(rate * duration_seconds <= MOST_REQUESTS, "TOO_MANY_REQUESTS", f"{what}; give a lower rate or less time.")
    return _Clock(np.array([0.0, duration_seconds]), np.array([0.0, rate * duration_seconds]))


def _name(source: Trace | float) -> str:
    return source.name if isinstance(source, Trace) else f"{source:g} requests/s"


def _require(valid: bool, reason: str, message: str) -> None:
    if not valid:
        raise InvalidArgumentError(message, reason=reason)

"""The figures to reach, and the ratios that say whether they were."""

from collections.abc import Sequence
from itertools import chain
from statistics import median
from typing import Final

from kindling.bench.goals import Goal, Ratio
from kindling.bench.predict.results import Results, Startups
from kindling.scheduler.domain.values import Tier

P99: Final = 0.99
ESTIMATES: Final = "estimate_error_median"
GOALS = (
    Goal("mean_error", 0.2, at_least=False),
    Goal("p99_error", 0.2, at_least=False),
    Goal(ESTIMATES, 0.1, at_least=False),
)
_TIERS: Final = {Tier.GPU: "parked", Tier.DRAM: "dram", Tier.SSD: "ssd", Tier.REMOTE: "remote"}


def ratios(results: Results) -> dict[str, Ratio]:
    """By how much what was foretold is off, over what was measured: by the simulator of all requests together, and by
    the scheduler in the median of its starts, of all and by tier."""
    errors = results.estimate_errors
    return {
        **simulation_errors(results.real, results.simulated),
        ESTIMATES: _median_size(list(chain.from_iterable(errors.values()))),
        **{f"{ESTIMATES}_{_TIERS[tier]}": _median_size(of_tier) for tier, of_tier in errors.items()},
    }


def simulation_errors(real: Startups, simulated: Startups) -> dict[str, Ratio]:
    """The simulator's, of the mean and of the P99."""
    return {
        "mean_error": error(simulated.mean, real.mean),
        "p99_error": error(simulated.quantile(P99), real.quantile(P99)),
    }


def error(simulated: float, real: float) -> Ratio:
    """|simulated - real| / real; none if nothing had to start."""
    return abs(simulated - real) / real if real > 0 else "not measured: no request had to wait"


def _median_size(errors: Sequence[float]) -> Ratio:
    return median(map(abs, errors)) if errors else "not measured: nothing started"

"""The figures to reach, and the ratios that say whether they were."""

from typing import Final

from kindling.bench.goals import Goal, Ratio
from kindling.bench.predict.results import Results

P99: Final = 0.99
GOALS = (Goal("mean_error", 0.2, at_least=False), Goal("p99_error", 0.2, at_least=False))


def ratios(results: Results) -> dict[str, Ratio]:
    """By how much what was foretold is off, over what was measured."""
    real, simulated = results.real, results.simulated
    return {
        "mean_error": error(simulated.mean, real.mean),
        "p99_error": error(simulated.quantile(P99), real.quantile(P99)),
    }


def error(simulated: float, real: float) -> Ratio:
    """|simulated - real| / real; none if nothing had to start."""
    return abs(simulated - real) / real if real > 0 else "not measured: no request had to wait"

"""The figures to reach, and the ratios that say whether they were."""

from collections.abc import Sequence

from kindling.bench.engine.results import Results
from kindling.bench.engine.ways import Way
from kindling.bench.goals import Goal, Ratio

GOALS = (
    Goal("engine_over_best_1", 1.0, at_least=True),
    Goal("engine_over_best_8", 1.0, at_least=True),
    Goal("engine_over_best_32", 1.0, at_least=True),
    Goal("engine_over_serial_32", 6.0, at_least=True),
)


def ratios(results: Results, loads: Sequence[int]) -> dict[str, Ratio]:
    """The engine over the best of transformers' own ways, over one by one, and exact over fast, for each load."""
    found: dict[str, Ratio] = {}
    for load in loads:
        ours = results.rate(Way.KINDLING, load)
        found[f"engine_over_best_{load}"] = _over(ours, results.best_peer(load))
        found[f"engine_over_serial_{load}"] = _over(ours, results.rate(Way.ONE_BY_ONE, load))
        found[f"exact_over_fast_{load}"] = _over(results.rate(Way.KINDLING_EXACT, load), ours)
    return found


def _over(numerator: float | None, denominator: float | None) -> Ratio:
    if numerator is None or not denominator:
        return "not measured: one of its two sides failed"
    return numerator / denominator

"""The figures to reach, and the ratios that say whether they were."""

import math
from collections.abc import Sequence

from kindling.bench.goals import Goal, Ratio
from kindling.bench.place.results import Kind, Sample, percentile

GROWING = (Kind.WARM, Kind.START)


def goals(samples: Sequence[Sample]) -> tuple[Goal, ...]:
    """What issue and design ask for; cost may grow as the logarithm of the number of workers does."""
    least, most = samples[0].size.workers, samples[-1].size.workers
    doublings = math.log2(most / least)
    growth = (math.log(most) / math.log(least)) ** (1 / doublings)
    return (
        Goal("decisions_per_second", 2000, at_least=True),
        Goal("p99_ms", 5, at_least=False),
        Goal("growth_per_doubling", round(growth, 3), at_least=False),
    )


def ratios(samples: Sequence[Sample]) -> dict[str, Ratio]:
    """Rate and P99 of the largest cluster; how much more a decision costs when the cluster doubles."""
    largest = samples[-1]
    growths = {kind: growth(samples, kind) for kind in GROWING}
    known = [one for one in growths.values() if not isinstance(one, str)]
    return {
        "decisions_per_second": largest.decisions_per_second,
        "p99_ms": percentile(largest.decisions, 0.99) * 1e3,
        "growth_per_doubling": max(known, default="not measured: no decision of these kinds came in every cluster"),
        **{f"growth_per_doubling_{kind.name.lower()}": one for kind, one in growths.items()},
    }


def growth(samples: Sequence[Sample], kind: Kind) -> Ratio:
    """By what the median cost of a kind of decision is multiplied when the cluster doubles, over all its doublings."""
    first, last = samples[0], samples[-1]
    if kind not in first.seconds or kind not in last.seconds:
        return "not measured: no such decision came in every cluster"
    doublings = math.log2(last.size.workers / first.size.workers)
    return float((last.median(kind) / first.median(kind)) ** (1 / doublings))

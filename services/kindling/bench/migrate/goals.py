"""The figures to reach, and the ratios that say whether they were."""

import math
import statistics
from collections.abc import Sequence

from kindling.bench.goals import Goal, Ratio
from kindling.bench.migrate.results import Divergence, Migrated, Results

GOALS = (
    Goal("pause_p99_over_median_gap", 3.0, at_least=False),
    Goal("tokens_lost_or_repeated", 0.0, at_least=False),
    Goal("bytes_over_kv", 0.002, at_least=False),
    Goal("bystander_slowdown", 0.05, at_least=False),
    Goal("failover_detection_seconds", 1.0, at_least=False),
    Goal("memory_growth", 1.02, at_least=False),
)


def ratios(results: Results) -> dict[str, Ratio]:
    """Every goal's ratio in order, and one without a goal; a part that failed says why instead."""
    found = {
        "pause_p99_over_median_gap": _pause(results),
        "tokens_lost_or_repeated": _lost(results),
        "bytes_over_kv": max((one.bytes_over_kv for one in all_migrated(results)), default=None),
        "bystander_slowdown": slowdown(results.slowdowns),
        "bystander_slowdown_beyond_other_work": _beyond_other_work(results),
        "failover_detection_seconds": max((one.detection_seconds for one in results.failovers), default=None),
        "memory_growth": _growth(results),
        "divergence_rate_bf16": divergence_rate(results.divergences, "bfloat16"),
        "divergence_rate_fp32": divergence_rate(results.divergences, "float32"),
    }
    why = f"not measured: {'; '.join(results.failures.values()) or 'there was nothing to measure'}"
    return {key: why if ratio is None else ratio for key, ratio in found.items()}


def all_migrated(results: Results) -> list[Migrated]:
    """Every migration that was measured."""
    return [*(single.migrated for single in results.singles), *results.load_migrated]


def p99(samples: Sequence[float]) -> float:
    """The sample that 99 in 100 do not exceed."""
    return sorted(samples)[math.ceil(0.99 * len(samples)) - 1]


def slowdown(over_before: Sequence[float]) -> float | None:
    """By how much gaps are longer than before, in the median; None if there are none."""
    return statistics.median(over_before) - 1 if over_before else None


def divergence_rate(divergences: Sequence[Divergence], dtype: str) -> float | None:
    """The share of generations of a type that went on with another token; None if there are none."""
    found = [one.same_tokens is not None for one in divergences if one.dtype == dtype]
    return sum(found) / len(found) if found else None


def _beyond_other_work(results: Results) -> float | None:
    """By how much gaps are longer than while the other worker computes as much that has nothing to do with them."""
    during, beside = slowdown(results.slowdowns), slowdown(results.busy_slowdowns)
    return None if during is None or beside is None else (1 + during) / (1 + beside) - 1


def _pause(results: Results) -> float | None:
    if not results.load_pauses:
        return None
    return p99(results.load_pauses) / statistics.median(results.load_gaps)


def _lost(results: Results) -> float | None:
    """Every position that differs from an undisturbed run's; nothing is said of runs that were not compared."""
    if not results.compared_tokens:
        return None
    return float(sum(mismatch.positions for mismatch in results.mismatches))


def _growth(results: Results) -> float | None:
    if not results.memory_after:
        return None
    return sum(results.memory_after.values()) / sum(results.memory_before.values())

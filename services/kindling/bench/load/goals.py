"""The figures to reach, and the ratios that say whether they were."""

from kindling.bench.goals import Goal, Ratio
from kindling.bench.load.results import Results
from kindling.bench.load.rows import (
    DRAM_TOUCHED,
    DRAM_VIEWS,
    DRAM_VIEWS_EIGHTH,
    REMOTE,
    SSD,
    SSD_FRESH,
    Kind,
    State,
    peer_row,
)

GOALS = (
    Goal("ssd_over_raw", 0.95, at_least=True),
    Goal("ssd_over_best_peer", 2.0, at_least=True),
    Goal("dram_hit_ms", 8.0, at_least=False),
    Goal("dram_hit_touched_ms", 40.0, at_least=False),
    Goal("dram_hit_growth", 2.0, at_least=False),
    Goal("safetensors_warm_over_dram_hit", 2.0, at_least=True),
    Goal("remote_over_raw", 0.9, at_least=True),
    Goal("peak_memory_over_floor", 1.05, at_least=False),
    Goal("progressive_over_max", 1.15, at_least=False),
    Goal("half_resident_over_expected", 1.0, at_least=False),
    Goal("cuda_dram_over_pinned", 0.95, at_least=True),
    Goal("cuda_ssd_over_link", 0.9, at_least=True),
)
FIGURES = ("peak_memory_over_floor", "progressive_over_max", "half_resident_over_expected")
_CAUSES = {"remote_over_raw": "obstore", "ssd_over_raw": "direct"}
CUDA = ("cuda_dram_over_pinned", "cuda_ssd_over_link")


def ratios(results: Results) -> dict[str, Ratio]:
    """Every goal's ratio in order, and beside them the like-for-like with a fresh pool, which has no goal."""
    raw, peer = results.best_rate(Kind.FLOOR, State.COLD), results.best_rate(Kind.PEER, State.COLD)
    hit, touched = results.median_seconds(DRAM_VIEWS), results.median_seconds(DRAM_TOUCHED)
    found = {
        "ssd_over_raw": _over(results.rate(SSD), raw),
        "ssd_over_best_peer": _over(results.rate(SSD), peer),
        "ssd_fresh_over_best_peer": _over(results.rate(SSD_FRESH), peer),
        "dram_hit_ms": _over(hit, 1e-3),
        "dram_hit_touched_ms": _over(touched, 1e-3),
        "dram_hit_growth": _over(hit, results.median_seconds(DRAM_VIEWS_EIGHTH)),
        "safetensors_warm_over_dram_hit": _over(_safetensors_warm(results), touched),
        "remote_over_raw": _over(results.rate(REMOTE), results.best_rate(Kind.REMOTE_FLOOR, State.COLD)),
        **{key: results.figures.get(key) for key in (*FIGURES, *CUDA)},
    }
    return {key: _missing(key, results) if ratio is None else ratio for key, ratio in found.items()}


def _safetensors_warm(results: Results) -> float | None:
    """The faster of the two ways that safetensors has."""
    ways = [peer_row(name, State.WARM) for name in ("safetensors_load_file", "safetensors_safe_open")]
    times = [results.median_seconds(way) for way in ways]
    return min((seconds for seconds in times if seconds is not None), default=None)


def _over(numerator: float | None, denominator: float | None) -> float | None:
    return numerator / denominator if numerator is not None and denominator else None


def _missing(key: str, results: Results) -> str:
    if key in CUDA:
        return "not yet run on a GPU"
    why = results.failures.get(_CAUSES.get(key, key), "one of its two sides was left out, or failed")
    return f"not measured: {why}"

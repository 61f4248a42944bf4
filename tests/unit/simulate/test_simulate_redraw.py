"""Redrawn arrivals: the right number on the mean, as bursty as wished, at the rates of the trace."""

from collections import Counter
from statistics import fmean, median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kindling.platform.errors import InvalidArgumentError
from kindling.simulate.lengths import STATED_LENGTHS
from kindling.simulate.redraw import redraw
from kindling.simulate.traces import Trace, TracedRequest, load_trace
from kindling.simulate.workload import Workload

GSM8K = STATED_LENGTHS["gsm8k"]
MODELS = tuple(f"m{index}" for index in range(32))


def at_rate(rate: float, models: int = 1, *, cv: float = 1, zipf: float = 0, seed: int = 1, seconds: float) -> Workload:
    names = MODELS[:models]
    return redraw(rate, names, cv=cv, zipf=zipf, lengths=GSM8K, seed=seed, duration_seconds=seconds)


def of_trace(trace: Trace, *, cv: float, zipf: float = 0, seed: int, seconds: float | None = None) -> Workload:
    duration = trace.duration_seconds if seconds is None else seconds
    return redraw(trace, MODELS, cv=cv, zipf=zipf, lengths=GSM8K, seed=seed, duration_seconds=duration)


@pytest.mark.parametrize(("cv", "few", "many"), [(1, (0.9, 1.1), (0.95, 1.05)), (8, (5.9, 7.3), (6.9, 7.9))])
def test_the_cv_of_a_finite_draw_is_biased_low(cv: float, few: tuple[float, float], many: tuple[float, float]) -> None:
    """Of 200 gaps with CV 8, the median sample has 6.6; of 1,000, 7.4."""
    for gaps, (low, high) in ((200, few), (1000, many)):
        reached = median(at_rate(1, cv=cv, seed=seed, seconds=gaps).gap_cv for seed in range(60))
        assert low < reached < high, gaps


@pytest.mark.parametrize("cv", [1, 4, 8])
@pytest.mark.parametrize(("expected", "models", "seeds"), [(3, 32, 100), (300, 8, 40)])
def test_the_mean_rate_is_right_however_bursty(cv: float, expected: int, models: int, seeds: int) -> None:
    """Had each model an arrival just before the beginning, a CV of 8 would bring it 31 requests too many."""
    counts = [
        len(at_rate(models, models, cv=cv, seed=seed, seconds=expected).arrivals) / models for seed in range(seeds)
    ]
    error = np.std(counts, ddof=1) / seeds**0.5
    assert abs(fmean(counts) - expected) < 3 * error
    assert error < 0.12 * expected  # so that the line above says something


def test_popularity_of_redrawn_arrivals() -> None:
    counts = Counter(one.model for one in at_rate(10, 8, zipf=1.0, seconds=3000).arrivals)
    harmonic = sum(1 / rank for rank in range(1, 9))
    for rank in range(1, 9):
        assert counts[f"m{rank - 1}"] == pytest.approx(30_000 / rank / harmonic, rel=0.06)


def test_windows_keep_their_rates() -> None:
    busy = [TracedRequest(at / 10, 1, 1) for at in range(600)]
    quiet = [TracedRequest(60.0 + at, 1, 1) for at in range(60)]
    nobody_until = TracedRequest(240.0, 1, 1)
    trace = Trace("t", (*busy, *quiet, nobody_until))
    times = [one.at_seconds for seed in range(20) for one in of_trace(trace, cv=1, seed=seed).arrivals]
    counts, _ = np.histogram(times, [0, 60, 120, 180, 240])
    assert counts[:2] == pytest.approx([12_000, 1_200], rel=0.08)
    assert counts[2] == 0


@pytest.mark.parametrize("zipf", [0, 1.5])
@pytest.mark.parametrize(("cv", "low", "high"), [(1, 1.0, 1.1), (4, 3.7, 4.3), (8, 7.0, 8.1)])
def test_an_hour_of_a_service_redrawn(zipf: float, cv: float, low: float, high: float) -> None:
    trace = load_trace("azure-conv")
    drawn = [of_trace(trace, cv=cv, zipf=zipf, seed=seed) for seed in range(3)]
    error = cv / (3 * len(trace.requests)) ** 0.5  # relative, of the mean of three
    assert fmean(len(workload.arrivals) for workload in drawn) == pytest.approx(len(trace.requests), rel=3 * error)
    assert low < fmean(workload.gap_cv for workload in drawn) < high
    assert all(workload.arrivals[-1].at_seconds <= workload.duration_seconds for workload in drawn)


def test_a_trace_that_comes_and_goes_adds_to_the_cv() -> None:
    assert 2 < of_trace(load_trace("azure-code"), cv=1, seed=1).gap_cv < 2.6


def test_a_part_of_a_trace() -> None:
    trace = load_trace("azure-conv")
    part = of_trace(trace, cv=1, seed=1, seconds=90.0)
    requests = sum(one.at_seconds <= 90 for one in trace.requests)
    assert part.duration_seconds == 90
    assert len(part.arrivals) == pytest.approx(requests, rel=0.2)
    assert part.arrivals[-1].at_seconds < 90


def test_a_seed_gives_the_same_workload() -> None:
    assert at_rate(5, 4, cv=8, seed=7, seconds=200) == at_rate(5, 4, cv=8, seed=7, seconds=200)
    assert at_rate(5, 4, cv=8, seed=7, seconds=200) != at_rate(5, 4, cv=8, seed=8, seconds=200)


def test_a_workload_says_what_it_is() -> None:
    assert at_rate(0.5, cv=8, zipf=0.5, seconds=10).name == "0.5 requests/s redrawn, CV 8, Zipf 0.5, gsm8k"


@settings(derandomize=True, deadline=None, max_examples=40)
@given(
    rate=st.floats(0.01, 5),
    models=st.integers(1, 8),
    cv=st.floats(0.1, 12),
    zipf=st.floats(0, 2),
    seed=st.integers(0, 99),
)
def test_every_arrival_is_within_the_duration(rate: float, models: int, cv: float, zipf: float, seed: int) -> None:
    workload = at_rate(rate, models, cv=cv, zipf=zipf, seed=seed, seconds=50)
    assert workload.models == MODELS[:models]
    assert all(0 <= one.at_seconds <= 50 and one.prompt_tokens and one.output_tokens for one in workload.arrivals)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"cv": 0}, "CV_INVALID"),
        ({"cv": float("inf")}, "CV_INVALID"),
        ({"cv": float("nan")}, "CV_INVALID"),
        ({"cv": 1e-200}, "CV_INVALID"),
        ({"cv": 1e200}, "CV_INVALID"),
        ({"source": 1e12}, "TOO_MANY_REQUESTS"),
        ({"source": 0.0}, "RATE_INVALID"),
        ({"source": float("nan")}, "RATE_INVALID"),
        ({"duration_seconds": 0}, "DURATION_INVALID"),
        ({"models": ()}, "NO_MODELS"),
        ({"zipf": -1}, "ZIPF_EXPONENT_INVALID"),
        ({"source": Trace("t", (TracedRequest(0, 1, 1), TracedRequest(5, 1, 1)))}, "DURATION_INVALID"),
    ],
)
def test_invalid(change: dict[str, object], reason: str) -> None:
    arguments = {"source": 1.0, "models": MODELS, "cv": 1, "zipf": 0, "lengths": GSM8K, "seed": 1} | {
        "duration_seconds": 10.0
    }
    with pytest.raises(InvalidArgumentError) as caught:
        redraw(**(arguments | change))  # type: ignore[arg-type]
    assert caught.value.reason == reason

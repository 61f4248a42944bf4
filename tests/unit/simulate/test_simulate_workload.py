"""Workloads are in order, and say how bursty they came out; a replay keeps times and lengths."""

from collections import Counter
from itertools import chain

import pytest

from kindling.platform.errors import InvalidArgumentError
from kindling.simulate.popularity import shares
from kindling.simulate.replay import replay
from kindling.simulate.traces import Trace, TracedRequest, load_trace
from kindling.simulate.workload import Arrival, Workload

MODELS = tuple(f"m{index}" for index in range(32))


def workload(times: dict[str, list[float]]) -> Workload:
    arrivals = chain.from_iterable((Arrival(at, model, 1, 1) for at in of_model) for model, of_model in times.items())
    by_time = tuple(sorted(arrivals, key=lambda arrival: arrival.at_seconds))
    return Workload("w", by_time, tuple(times), 100.0)


def test_even_gaps_vary_by_nothing() -> None:
    assert workload({"a": [0, 1, 2, 3], "b": [0, 10, 20]}).gap_cv == 0


def test_gaps_are_those_of_a_model() -> None:
    assert workload({"a": [0, 10], "b": [1, 11]}).gap_cv == 0


def test_gap_cv() -> None:
    assert workload({"a": [0, 1, 4]}).gap_cv == pytest.approx(0.5)  # gaps 1 and 3: deviation 1, mean 2


def test_gap_cv_over_models_weighs_gaps() -> None:
    both = workload({"a": [0, 10, 40], "b": [0, 1, 2, 3, 4, 5, 6]})
    assert both.gap_cv == pytest.approx((2 * 0.5**2 / 8) ** 0.5)


@pytest.mark.parametrize("times", [{}, {"a": [1.0]}, {"a": [1.0, 1.0]}])
def test_no_gaps(times: dict[str, list[float]]) -> None:
    assert workload(times).gap_cv == 0


def test_arrivals_are_by_time_and_for_listed_models() -> None:
    late, early = Arrival(2, "a", 1, 1), Arrival(1, "a", 1, 1)
    with pytest.raises(AssertionError, match="by time"):
        Workload("w", (late, early), ("a",), 10)
    with pytest.raises(AssertionError, match="not listed"):
        Workload("w", (early, late), ("b",), 10)


def test_replay_keeps_times_and_lengths() -> None:
    trace = Trace("t", tuple(TracedRequest(float(at), 10 + at, 20 + at) for at in range(50)))
    replayed = replay(trace, ("a", "b"), zipf=0, seed=1)
    kept = [(one.at_seconds, one.prompt_tokens, one.output_tokens) for one in replayed.arrivals]
    assert kept == [(one.at_seconds, one.prompt_tokens, one.output_tokens) for one in trace.requests]
    assert {one.model for one in replayed.arrivals} == {"a", "b"}
    assert (replayed.models, replayed.duration_seconds) == (("a", "b"), 49.0)


def test_replay_of_an_hour_over_32_models() -> None:
    trace = load_trace("azure-conv")
    replayed = replay(trace, MODELS, zipf=1.0, seed=1)
    assert [one.at_seconds for one in replayed.arrivals] == [one.at_seconds for one in trace.requests]
    counts = Counter(one.model for one in replayed.arrivals)
    reached = [counts[model] / len(replayed.arrivals) for model in MODELS]
    assert reached == pytest.approx(shares(32, 1.0).tolist(), abs=0.01)
    assert 1 < replayed.gap_cv < 1.2  # as irregular as the service was
    assert replay(trace, MODELS, zipf=1.0, seed=1) == replayed
    assert replay(trace, MODELS, zipf=1.0, seed=2) != replayed


def test_replay_needs_models() -> None:
    with pytest.raises(InvalidArgumentError):
        replay(load_trace("azure-code"), (), zipf=0, seed=1)

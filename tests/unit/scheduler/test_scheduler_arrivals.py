"""Predictions by the hour of the day, and of what is hardly known."""

from itertools import pairwise

import pytest

from kindling.scheduler.domain.arrivals import Arrivals

MODEL = "blake3:m"
HOUR, DAY = 3_600.0, 86_400.0


def test_an_hour_of_the_day_is_learned_where_gaps_tell_nothing() -> None:
    arrivals = Arrivals(began=0.0)
    # Between nine and ten every day, some minutes earlier or later, and once or twice.
    for day in range(10):
        arrivals.note(MODEL, day * DAY + 9 * HOUR + (day * 17 % 50) * 60)
        if day % 2:
            arrivals.note(MODEL, day * DAY + 9 * HOUR + (day * 17 % 50) * 60 + 300)
    nine = 10 * DAY + 9 * HOUR
    assert arrivals.probability(MODEL, nine, HOUR) > 0.85
    assert arrivals.probability(MODEL, nine - 7 * HOUR, HOUR) < 0.1
    assert arrivals.probability(MODEL, nine + 20 * DAY, HOUR) < 0.05, "and forgotten when it does not come back"


def test_the_hour_is_that_of_the_wall_clock() -> None:
    arrivals = Arrivals(began=0.0, wall_offset_seconds=9 * HOUR)
    for day in range(6):
        arrivals.note(MODEL, day * DAY)
    assert arrivals.next_rise(MODEL, 5 * DAY + HOUR, 0.0) == pytest.approx(6 * DAY, rel=0.06)


def test_what_was_never_called_is_not_expected_and_may_still_come_soon() -> None:
    arrivals = Arrivals(began=1_000.0)
    assert arrivals.probability(MODEL, 1_000.0, 60.0) == 0.0
    assert arrivals.nearness(MODEL, 1_000.0, 60.0) == 0.0
    chances = [arrivals.nearness_at_most(MODEL, 1_000.0 + elapsed, 60.0) for elapsed in (0, 60, 600, 6_000)]
    assert chances == [1.0, 0.5, pytest.approx(60 / 660), pytest.approx(60 / 6_060)]


def test_one_call_tells_nothing_of_the_next_but_that_it_may_be_soon() -> None:
    arrivals = Arrivals(began=0.0)
    arrivals.note(MODEL, 40 * HOUR)
    for elapsed in (1, 100, 10_000):
        # Hours count by themselves: a quarter of days, after one.
        assert arrivals.probability(MODEL, 40 * HOUR + elapsed, 60.0) < 0.01
    soon, later = (arrivals.nearness_at_most(MODEL, 40 * HOUR + elapsed, 60.0) for elapsed in (1, 3_000))
    assert soon > 0.9 > 0.05 > later


def test_more_calls_make_it_surer() -> None:
    arrivals, now, seen = Arrivals(began=0.0), 0.0, []
    for _ in range(8):
        arrivals.note(MODEL, now)
        seen.append(arrivals.probability(MODEL, now + 500, 200.0))
        now += 600
    assert seen[0] < 0.02
    assert all(less < more for less, more in pairwise(seen[1:]))
    assert 0.25 < seen[1] < 0.5, "one gap may be chance, and there may be no other call"
    assert seen[-1] > 0.8


def test_gaps_outlive_years_of_calls() -> None:
    arrivals, now = Arrivals(began=0.0), 0.0
    for _ in range(1_000):
        now += 3 * DAY  # two thousand half-lives and more: weights are counted from a new origin
        arrivals.note(MODEL, now)
    assert 0.1 < arrivals.probability(MODEL, now + 2.9 * DAY, 0.2 * DAY) < 0.5


def test_what_is_forgotten_is_new() -> None:
    arrivals = Arrivals(began=0.0)
    for call in range(5):
        arrivals.note(MODEL, call * 600.0)
    arrivals.forget(MODEL)
    assert (len(arrivals), arrivals.probability(MODEL, 2_900.0, 200.0)) == (0, 0.0)

"""What holds for predictions of calls, whatever came when."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from kindling.scheduler.domain.arrivals import SAME_VISIT_SECONDS, Arrivals
from kindling.scheduler.domain.gaps import HALF_LIFE_SECONDS

MODEL = "blake3:m"
DAY = 86_400.0
gaps = st.floats(0.0, 30 * DAY)
histories = st.lists(gaps, max_size=40)
horizons = st.floats(0.0, 2 * DAY)
offsets = st.floats(0.0, 2e9)
deterministic = settings(derandomize=True, deadline=None, max_examples=200)


def after(history: list[float], offset: float = 0.0, began: float = 0.0) -> tuple[Arrivals, float]:
    """Arrivals that have seen calls with these gaps, and the time of the last one."""
    arrivals, now = Arrivals(began, offset), began
    for gap in history:
        now += gap
        arrivals.note(MODEL, now)
    return arrivals, now


@given(histories, offsets, gaps, horizons, horizons)
@deterministic
def test_probabilities_are_such_and_grow_with_the_horizon(
    history: list[float], offset: float, elapsed: float, one: float, other: float
) -> None:
    arrivals, now = after(history, offset)
    short, long = sorted((one, other))
    less, more = (arrivals.probability(MODEL, now + elapsed, seconds) for seconds in (short, long))
    assert 0.0 <= less <= more + 1e-12 <= 1.0 + 2e-12
    near, nearer = (arrivals.nearness(MODEL, now + elapsed, seconds + 1.0) for seconds in (short, long))
    assert 0.0 <= near <= nearer + 1e-12 <= 1.0 + 2e-12, "the further one looks, the nearer it is"
    assert nearer <= arrivals.nearness_at_most(MODEL, now + elapsed, long + 1.0) <= 1.0 + 1e-12


@given(st.floats(20.0, 3 * DAY), st.integers(4, 40), offsets)
@deterministic
def test_calls_that_come_periodically_are_foreseen(period: float, calls: int, offset: float) -> None:
    arrivals, last = after([period] * calls, offset)
    horizon = 0.2 * period
    due = arrivals.probability(MODEL, last + 0.9 * period, horizon)
    # What is believed of gaps that are over for long is little: of a period of days few are remembered.
    remembered = sum(math.exp2(-(0.9 + n) * period / HALF_LIFE_SECONDS) for n in range(calls - 1))
    assert due >= 0.7 * remembered / (remembered + 1), "the rest is doubt whether there is a habit"


@given(st.floats(20.0, 3_000.0), st.integers(4, 40))
@deterministic
def test_between_calls_that_come_periodically_nothing_is_expected(period: float, calls: int) -> None:
    arrivals, last = after([period] * calls)
    quiet = 0.3 * period
    by_hours = -math.expm1(math.log(0.05) * quiet / 3_600)  # at most, in the busiest hour
    without_habit = -math.expm1(-0.3)
    assert arrivals.probability(MODEL, last + 0.2 * period, quiet) <= max(by_hours, without_habit / 4) + 1e-9


@given(histories, offsets)
@deterministic
def test_what_stopped_is_forgotten(history: list[float], offset: float) -> None:
    arrivals, last = after(history, offset)
    assert arrivals.probability(MODEL, last + 60 * DAY, 600.0) < 1e-3


@given(st.floats(30.0, 600.0), st.floats(1_200.0, 7_200.0))
@deterministic
def test_an_old_rhythm_gives_way_to_a_new_one(old: float, new: float) -> None:
    arrivals, now = after([old] * 200)
    for _ in range(int(20 * HALF_LIFE_SECONDS / new)):
        now += new
        arrivals.note(MODEL, now)
    early = arrivals.probability(MODEL, now, 1.1 * old)
    by_hours = -math.expm1(math.log(0.05) * 1.1 * old / 3_600)
    assert early <= max(by_hours, 0.01) + 1e-9
    assert arrivals.probability(MODEL, now + 0.9 * new, 0.25 * new) > 0.8


@given(histories, offsets, gaps, st.floats(1.0, 600.0))
@deterministic
def test_until_the_next_rise_there_is_none(history: list[float], offset: float, elapsed: float, horizon: float) -> None:
    arrivals, last = after(history, offset)
    now = last + elapsed
    rise = arrivals.next_rise(MODEL, now, horizon)
    assert rise >= now
    before = arrivals.probability(MODEL, now, horizon)
    until = min(rise, now + 30 * DAY)
    for share in (0.25, 0.5, 0.99):
        assert arrivals.probability(MODEL, now + share * (until - now), horizon) <= before + 1e-9


@given(st.lists(st.floats(0.0, 0.5 * SAME_VISIT_SECONDS), min_size=1, max_size=50))
@deterministic
def test_a_burst_of_calls_is_one(burst: list[float]) -> None:
    arrivals, now = after([600.0] * 5)
    for gap in burst:
        now += gap
        assert not arrivals.note(MODEL, now)
    assert arrivals.probability(MODEL, now, 60.0) <= 0.05
    assert arrivals.probability(MODEL, now + 560, 100.0) >= 0.7

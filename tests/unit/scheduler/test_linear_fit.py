"""A line fitted to outcomes as they come, on histories made up."""

import random
import statistics

import pytest

from kindling.scheduler.domain.linear_fit import LinearFit


def test_the_prior_is_believed_first() -> None:
    fit = LinearFit(0.001, 0.05)
    assert fit.seconds(0) == 0.05
    assert fit.seconds(1000) == pytest.approx(1.05)


@pytest.mark.parametrize(("slope", "base"), [(0.0002, 0.02), (0.01, 0.5), (0.0001, 2.0)])
def test_a_line_is_found_however_wrong_the_prior_is(slope: float, base: float) -> None:
    fit = LinearFit(0.001, 0.05)
    for number in range(40):
        size = 200 + 397 * number % 4000
        fit.learn(size, slope * size + base)
    for size in (200, 1000, 4000):
        assert fit.seconds(size) == pytest.approx(slope * size + base, rel=0.05)


def test_a_few_outcomes_suffice_to_be_near() -> None:
    fit = LinearFit(0.001, 0.05)
    for size in (500, 3000, 1000):
        fit.learn(size, 0.0003 * size + 0.2)
    assert fit.seconds(2000) == pytest.approx(0.8, rel=0.1)


@pytest.mark.parametrize("seed", range(5))
def test_noise_leaves_an_error_below_a_tenth(seed: int) -> None:
    draw = random.Random(seed)
    fit, errors = LinearFit(0.001, 0.05), []
    for _ in range(100):
        size = draw.randint(50, 8000)
        took = (0.0004 * size + 0.1) * draw.uniform(0.92, 1.08)
        errors.append(abs(fit.seconds(size) / took - 1))
        fit.learn(size, took)
    assert statistics.median(errors[5:]) <= 0.10


@pytest.mark.parametrize("factor", [0.05, 20])
def test_one_outcome_far_off_is_forgiven(factor: float) -> None:
    fit = LinearFit(0.001, 0.05)
    for number in range(30):
        size = 100 + 700 * number % 5000
        fit.learn(size, 0.0005 * size + 0.1)
    fit.learn(2000, 1.1 * factor)
    assert fit.seconds(2000) == pytest.approx(1.1, rel=0.35)
    for size in (300, 2500, 4000, 900):
        fit.learn(size, 0.0005 * size + 0.1)
    assert fit.seconds(2000) == pytest.approx(1.1, rel=0.1)


def test_a_device_that_became_half_as_fast_is_noticed() -> None:
    fit = LinearFit(0.001, 0.05)
    for number in range(60):
        size = 100 + 700 * number % 5000
        fit.learn(size, (0.0005 * size + 0.1) * (2 if number >= 30 else 1))
    assert fit.seconds(2000) == pytest.approx(2.2, rel=0.1)


@pytest.mark.parametrize("outcomes", [[(100, 5.0), (1000, 1.0), (5000, 0.2)], [(100, 0.001), (5000, 9.0)]])
def test_no_coefficient_is_negative_whatever_comes(outcomes: list[tuple[float, float]]) -> None:
    fit = LinearFit(0.001, 0.05)
    for size, seconds in outcomes * 5:
        fit.learn(size, seconds)
        assert min(fit.coefficients) >= 0
    assert fit.seconds(0) <= fit.seconds(100) <= fit.seconds(10**6)

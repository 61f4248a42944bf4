"""Popularity: Zipf shares, and models imposed on requests."""

import numpy as np
import pytest

from kindling.platform.errors import InvalidArgumentError
from kindling.simulate.popularity import impose, shares


@pytest.mark.parametrize("zipf", [0.5, 1.0, 1.5])
def test_zipf_shares(zipf: float) -> None:
    popularity = shares(32, zipf)
    assert popularity.sum() == pytest.approx(1)
    assert popularity[0] / popularity[1] == pytest.approx(2**zipf)
    assert popularity[0] / popularity[31] == pytest.approx(32**zipf)


def test_an_exponent_of_zero_is_even() -> None:
    assert shares(8, 0) == pytest.approx([1 / 8] * 8)


@pytest.mark.parametrize("zipf", [0, 1.0])
def test_models_are_imposed_by_popularity(zipf: float) -> None:
    chosen = impose(50_000, 8, zipf, np.random.default_rng(1))
    # Three standard deviations of a binomial count are below 0.7 % of all requests.
    assert np.bincount(chosen, minlength=8) / 50_000 == pytest.approx(shares(8, zipf), abs=0.007)


@pytest.mark.parametrize(
    ("models", "zipf", "reason"),
    [(0, 1.0, "NO_MODELS"), (2, -0.1, "ZIPF_EXPONENT_INVALID"), (2, float("nan"), "ZIPF_EXPONENT_INVALID")],
)
def test_invalid(models: int, zipf: float, reason: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        shares(models, zipf)
    assert caught.value.reason == reason

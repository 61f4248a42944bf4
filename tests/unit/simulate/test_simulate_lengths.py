"""Lengths have the mean and the quantiles that the data sets are known for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kindling.platform.errors import NotFoundError
from kindling.simulate.lengths import STATED_LENGTHS, FittedLengths, InverseCdf, Lengths, StatedLengths, lengths_named

# Mean, 50th, 90th and 99th percentile of the prompts and of the outputs, as counted over the data sets.
STATED = {
    "azure-conv": ((1155, 1020, 2734, 4142), (211, 129, 424, 601)),
    "azure-code": ((2048, 1469, 5188, 7436), (28, 13, 55, 251)),
    "sharegpt": ((2340, 1730, 5696, 7434), (439, 415, 834, 998)),
    "gsm8k": ((55, 51, 82, 120), (121, 111, 192, 286)),
}


def drawn(lengths: Lengths, count: int = 20_000, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.array([lengths.draw(rng) for _ in range(count)])


@pytest.mark.parametrize("name", STATED)
def test_mean_and_quantiles(name: str) -> None:
    lengths = lengths_named(name)
    sample = drawn(lengths)
    assert lengths.name == name
    assert sample.min() >= 1
    for column, (mean, *quantiles) in enumerate(STATED[name]):
        assert sample[:, column].mean() == pytest.approx(mean, rel=0.02)
        assert np.quantile(sample[:, column], [0.5, 0.9, 0.99]) == pytest.approx(quantiles, rel=0.06)


def test_traced_lengths_come_in_pairs() -> None:
    pairs = set(lengths_named("azure-conv").pairs)  # type: ignore[attr-defined]
    assert {tuple(pair) for pair in drawn(lengths_named("azure-conv"), 2000).tolist()} <= pairs


@pytest.mark.parametrize("name", STATED_LENGTHS)
def test_stated_lengths_have_the_stated_mean_exactly(name: str) -> None:
    lengths = STATED_LENGTHS[name]
    middles = (np.arange(100_000) + 0.5) / 100_000
    for inverse, (mean, *_) in zip((lengths.prompt, lengths.output), STATED[name], strict=True):
        assert np.mean([inverse.at(u) for u in middles]) == pytest.approx(mean, rel=1e-4)


@settings(derandomize=True, deadline=None)
@given(st.sampled_from(["prompt", "output"]), st.sampled_from(sorted(STATED_LENGTHS)), st.floats(0, 1), st.floats(0, 1))
def test_longer_with_probability(side: str, name: str, one: float, other: float) -> None:
    inverse: InverseCdf = getattr(STATED_LENGTHS[name], side)
    low, high = sorted((one, other))
    assert 1 <= inverse.at(low) <= inverse.at(high) <= inverse.knots[-1][1]


def test_quantiles_are_met() -> None:
    inverse = InverseCdf.fit(mean=55, p50=51, p90=82, p99=120)
    assert [inverse.at(u) for u in (0, 0.5, 0.9, 0.99, 1)] == pytest.approx([1, 51, 82, 120, 158])


def test_stated_lengths_are_independent() -> None:
    sample = drawn(STATED_LENGTHS["sharegpt"])
    assert abs(np.corrcoef(sample.T)[0, 1]) < 0.02


def test_cut_to_a_context() -> None:
    cut = FittedLengths(STATED_LENGTHS["sharegpt"], 2048)
    whole, short = drawn(STATED_LENGTHS["sharegpt"]), drawn(cut)
    assert cut.name == "sharegpt within 2048"
    assert short.sum(axis=1).max() == 2048
    assert (short[:, 1] == whole[:, 1]).all()
    fits = whole.sum(axis=1) <= 2048
    assert 0.1 < fits.mean() < 0.9
    assert (short[fits] == whole[fits]).all()


def test_a_context_too_short_for_the_output() -> None:
    ten = InverseCdf(((0.0, 10.0), (1.0, 10.0)), 1.0)
    assert FittedLengths(StatedLengths("ten", ten, ten), 8).draw(np.random.default_rng(0)) == (1, 7)


def test_unknown_lengths_say_what_there_is() -> None:
    with pytest.raises(NotFoundError, match="azure-conv, azure-code, sharegpt, gsm8k") as caught:
        lengths_named("alpaca")
    assert caught.value.reason == "LENGTHS_UNKNOWN"


def test_a_seed_gives_the_same_lengths() -> None:
    lengths = lengths_named("gsm8k")
    assert (drawn(lengths, 100, seed=3) == drawn(lengths, 100, seed=3)).all()
    assert (drawn(lengths, 100, seed=3) != drawn(lengths, 100, seed=4)).any()

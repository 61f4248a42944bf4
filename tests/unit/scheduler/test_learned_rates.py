"""Figures learned from samples, on histories made up."""

import random
import statistics

import pytest

from kindling.scheduler.domain.bandwidths import FULL_SAMPLE_BYTES, MIN_SAMPLE_BYTES, Bandwidths
from kindling.scheduler.domain.rates import LearnedRate
from kindling.scheduler.domain.values import Node, Tier
from support import scheduler_views as views
from support.scheduler_views import GB

NODE = views.node("n", ssd=2 * GB)


def rate(*samples: float) -> LearnedRate:
    learned = LearnedRate()
    for sample in samples:
        learned.add(sample)
    return learned


def loads(*speeds: float, size_bytes: int = GB) -> Bandwidths:
    """What loads from the node's SSD at these speeds teach."""
    bandwidths = Bandwidths()
    for speed in speeds:
        bandwidths.learn(NODE, Tier.SSD, size_bytes, size_bytes / speed)
    return bandwidths


def known(bandwidths: Bandwidths, node: Node = NODE, tier: Tier = Tier.SSD) -> float | None:
    return bandwidths.known(node, tier)


def test_without_samples_the_prior_is_believed() -> None:
    assert rate().value() is None
    assert rate().value(3.0) == 3.0


def test_a_first_sample_weighs_more_than_the_prior() -> None:
    assert rate(1.0).value(3.0) == 1.0


@pytest.mark.parametrize("outlier", [0.01, 100.0])
@pytest.mark.parametrize("place", range(5))
def test_one_sample_far_off_changes_nothing(outlier: float, place: int) -> None:
    samples = [1.0] * 5
    samples[place] = outlier
    assert rate(*samples).value() == 1.0


def test_the_second_of_two_is_doubted_where_something_was_known() -> None:
    assert rate(1.0, 100.0).value(1.0) == 1.0


def test_what_became_half_as_fast_is_believed_within_three_samples() -> None:
    before = rate(*[2.0] * 20)
    seen = []
    for _ in range(3):
        before.add(1.0)
        seen.append(before.value(2.0))
    assert seen == [2.0, 2.0, 1.0]


def test_light_samples_do_not_outweigh_a_heavy_one() -> None:
    learned = LearnedRate()
    learned.add(1.0, 5.0)
    for _ in range(3):
        learned.add(9.0, 0.05)
    assert learned.value() == 1.0


def test_a_steady_rate_is_the_median_of_more_samples() -> None:
    steady = LearnedRate(steady=True)
    for value in [2.0] * 40 + [1.0] * 6:
        steady.add(value)
    assert steady.value() == 2.0
    steady.add(1.0)
    assert steady.value() == 1.0, "seven in a row"


def test_a_link_begins_with_what_the_storage_manager_measured() -> None:
    assert known(Bandwidths()) == 2 * GB
    assert known(Bandwidths(), tier=Tier.REMOTE) is None
    assert list(Bandwidths().learned(NODE)) == []


def test_a_load_refines_its_link_and_no_other() -> None:
    bandwidths = loads(GB)
    assert known(bandwidths) == pytest.approx(GB)
    assert known(bandwidths, views.node("other", ssd=2 * GB)) == 2 * GB
    assert known(bandwidths, tier=Tier.REMOTE) is None
    (link,) = bandwidths.learned(NODE)
    assert (link.tier, link.measured_bytes_per_second, link.loads) == (Tier.SSD, 2 * GB, 1)
    assert link.bytes_per_second == pytest.approx(GB)


def test_what_is_too_small_to_tell_is_left_out() -> None:
    assert known(loads(GB, size_bytes=MIN_SAMPLE_BYTES - 1)) == 2 * GB
    bandwidths = Bandwidths()
    bandwidths.learn(NODE, Tier.SSD, GB, 0.0)
    assert known(bandwidths) == 2 * GB


def test_small_loads_have_to_agree_with_each_other_to_be_believed() -> None:
    few = loads(GB, GB, size_bytes=FULL_SAMPLE_BYTES // 5)
    assert known(few) == 2 * GB
    many = loads(*[GB] * 8, size_bytes=FULL_SAMPLE_BYTES // 5)
    assert known(many) == pytest.approx(GB)


def test_what_a_read_takes_besides_its_bytes_is_learned_from_short_ones() -> None:
    bandwidths = Bandwidths()
    for _ in range(4):
        bandwidths.learn(NODE, Tier.SSD, 8 * GB, 4.005)
        bandwidths.learn(NODE, Tier.SSD, MIN_SAMPLE_BYTES // 2, 0.005)
    speed = known(bandwidths)
    assert speed == pytest.approx(2 * GB, rel=0.01)
    assert bandwidths.seconds(Tier.SSD, GB // 10, speed) == pytest.approx(0.055, rel=0.01)
    assert bandwidths.seconds(Tier.SSD, 0, speed) == 0.0
    assert bandwidths.seconds(Tier.REMOTE, GB, GB) == 1.0, "each kind of tier has its own"


@pytest.mark.parametrize("seed", range(5))
def test_noise_and_outliers_leave_an_error_below_a_tenth(seed: int) -> None:
    """Loads take 8 % more or less; every tenth is three times as slow, and the disk halves its speed on the way."""
    draw = random.Random(seed)
    bandwidths, errors = Bandwidths(), []
    for number in range(200):
        speed = (2 if number < 100 else 1) * GB * draw.uniform(0.92, 1.08) / (3 if number % 10 == 9 else 1)
        size_bytes = draw.randint(1, 8) * GB
        errors.append(abs((size_bytes / (known(bandwidths) or GB)) / (size_bytes / speed) - 1))
        bandwidths.learn(NODE, Tier.SSD, size_bytes, size_bytes / speed)
    assert statistics.median(errors) <= 0.10

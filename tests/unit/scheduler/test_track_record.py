"""How well estimates came true."""

import math

import pytest

from kindling.scheduler.domain.track_record import BUCKET_BOUNDS, EstimateKind, TrackRecord
from kindling.scheduler.domain.values import Tier


def test_errors_are_told_for_all_nodes_and_for_each() -> None:
    record = TrackRecord()
    for node_id, estimated in (("n1", 1.05), ("n1", 0.8), ("n2", 3.0)):
        record.note(EstimateKind.LOAD, node_id, estimated, 1.0, Tier.SSD)
    everywhere, first, second = record.qualities()
    assert (everywhere.node_id, everywhere.count, first.node_id, first.count) == ("", 3, "n1", 2)
    assert (everywhere.median_error, everywhere.p90_error) == (pytest.approx(0.2), pytest.approx(2.0))
    assert (first.median_error, second.median_error) == (pytest.approx(0.05), pytest.approx(2.0))
    assert dict(zip(BUCKET_BOUNDS, everywhere.histogram, strict=True)) == {
        -0.5: 0,
        -0.25: 0,
        -0.1: 1,
        0.0: 0,
        0.1: 1,
        0.25: 0,
        0.5: 0,
        1.0: 0,
        math.inf: 1,
    }


def test_kinds_and_tiers_are_told_apart_in_order() -> None:
    record = TrackRecord()
    record.note(EstimateKind.MIGRATION, "n", 1.0, 1.0)
    record.note(EstimateKind.INIT, "n", 1.0, 1.0)
    for tier in (Tier.REMOTE, Tier.DRAM):
        record.note(EstimateKind.STARTUP, "n", 1.0, 1.0, tier)
    found = [(one.kind, one.source) for one in record.qualities() if one.node_id]
    assert found == [
        (EstimateKind.STARTUP, Tier.DRAM),
        (EstimateKind.STARTUP, Tier.REMOTE),
        (EstimateKind.INIT, None),
        (EstimateKind.MIGRATION, None),
    ]


def test_only_the_latest_are_remembered() -> None:
    record = TrackRecord()
    for number in range(5000):
        record.note(EstimateKind.INIT, "n", 1.0 if number >= 4936 else 9.0, 1.0)
    everywhere, node = record.qualities()
    assert (node.count, node.p90_error) == (64, 0.0)
    assert everywhere.count == 1024


@pytest.mark.parametrize(("estimated", "actual"), [(1.0, 0.0), (1.0, -1.0), (1.0, math.inf), (math.nan, 1.0)])
def test_what_cannot_be_compared_is_left_out(estimated: float, actual: float) -> None:
    record = TrackRecord()
    record.note(EstimateKind.INIT, "n", estimated, actual)
    assert record.qualities() == []

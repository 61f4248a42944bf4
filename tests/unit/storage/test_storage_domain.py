"""Geometry, layout, the SSD ledger, traffic and arrivals."""

import pytest

from kindling.platform.errors import DataLossError, InternalError
from kindling.storage.arrivals import Arrival, ArrivalBoard
from kindling.storage.domain.geometry import Geometry
from kindling.storage.domain.layout import Layout, MemoryExtent
from kindling.storage.domain.ssd_ledger import SsdLedger
from kindling.storage.domain.tier import Tier, TierTraffic
from kindling.storage.domain.traffic import MIN_SAMPLE_BYTES, BandwidthBook, TrafficMeter


def test_chunks_count_over_all_partitions_and_the_last_of_each_is_short() -> None:
    geometry = Geometry.cut([25, 10], 10)
    assert [(c.partition, c.file_offset, c.length) for c in geometry.chunks] == [
        (0, 0, 10),
        (0, 10, 10),
        (0, 20, 5),
        (1, 0, 10),
    ]
    assert (geometry.total_bytes, geometry.head_bytes(3)) == (35, 25)


def test_a_layout_hands_out_buffers_and_then_one_piece_of_the_copy_per_partition() -> None:
    layout = Layout(Geometry.cut([25, 15], 10), buffers=(7, 3))
    assert layout.extents() == (
        MemoryExtent(0, 0, 10, 7),
        MemoryExtent(0, 10, 10, 3),
        MemoryExtent(0, 20, 5, None),
        MemoryExtent(1, 0, 15, None),
    )
    assert not layout.in_dram
    assert Layout(Geometry.cut([5], 10), buffers=(1,)).in_dram


def test_the_ledger_evicts_the_least_recently_used_copy_that_is_not_pinned() -> None:
    ledger = SsdLedger(100)
    for digest in ("a", "b", "c"):
        ledger.add(digest, 30, sealed=True)
    ledger.pin("a")
    ledger.use("b")
    assert (ledger.fits(20), ledger.could_fit(70), ledger.could_fit(71)) == (False, True, False)
    assert ledger.next_victim() == "c"
    ledger.remove("c")
    ledger.check_integrity()
    assert (ledger.used_bytes, ledger.pinned_bytes, ledger.digests()) == (60, 30, ("a", "b"))


def test_the_ledger_notices_one_unpin_too_many() -> None:
    ledger = SsdLedger()
    ledger.add("a", 30, sealed=False)
    assert not ledger.has("a")
    ledger.unpin("a")
    with pytest.raises(InternalError):
        ledger.check_integrity()


def test_overlapping_reads_count_their_seconds_once() -> None:
    meter = TrafficMeter()
    meter.begin(Tier.SSD, 1.0)
    meter.begin(Tier.SSD, 2.0)
    meter.end(Tier.SSD, 10, 3.0)
    meter.end(Tier.SSD, 10, 4.0)
    meter.begin(Tier.SSD, 8.0)
    meter.end(Tier.SSD, 0, 9.0)
    meter.add(Tier.DRAM, 5)
    assert meter.totals() == (TierTraffic(Tier.DRAM, 5, 0.0), TierTraffic(Tier.SSD, 20, 4.0))


def test_bandwidth_follows_recent_loads_and_ignores_small_ones() -> None:
    book = BandwidthBook()
    book.learn([TierTraffic(Tier.SSD, 10, 1.0)])
    assert book.bytes_per_second(Tier.SSD) == 0
    book.learn([TierTraffic(Tier.SSD, MIN_SAMPLE_BYTES, 1.0)])
    book.learn([TierTraffic(Tier.SSD, MIN_SAMPLE_BYTES, 0.5)])
    assert MIN_SAMPLE_BYTES < book.bytes_per_second(Tier.SSD) < 2 * MIN_SAMPLE_BYTES


def test_arrivals_out_of_order_are_told_in_order_and_runs_of_a_tier_together() -> None:
    board = ArrivalBoard(4)
    before = board.change
    board.arrive(2, 1, Tier.REMOTE)
    assert before.is_set()
    assert list(board.arrivals_from(0)) == []
    board.arrive(0, 2, Tier.DRAM)
    assert list(board.arrivals_from(0)) == [Arrival(0, 2, Tier.DRAM), Arrival(2, 1, Tier.REMOTE)]
    board.arrive(3, 1, Tier.REMOTE)
    assert list(board.arrivals_from(2)) == [Arrival(2, 2, Tier.REMOTE)]
    assert board.complete


def test_a_failed_board_keeps_its_error_and_wakes_followers() -> None:
    board = ArrivalBoard(1)
    change = board.change
    error = DataLossError("gone", reason="CHUNK_CORRUPT")
    board.fail(error)
    assert change.is_set()
    assert board.error is error

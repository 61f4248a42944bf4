"""Asking for huge pages, against a stand-in for the kernel's counters."""

import threading
from pathlib import Path

import pytest

from kindling.storage.adapters.huge_pages import HugePages
from kindling.storage.adapters.memfd_pool import MemfdPool
from kindling.storage.settings import HUGE_PAGE_BYTES


def counters(directory: Path, *, total: int, free: int, reserved: int = 0) -> HugePages:
    for name, value in (("nr_hugepages", total), ("free_hugepages", free), ("resv_hugepages", reserved)):
        (directory / name).write_text(f"{value}\n")
    return HugePages(directory)


def test_free_pages_are_those_not_promised_to_anybody(tmp_path: Path) -> None:
    assert counters(tmp_path, total=9, free=5, reserved=2).free_bytes() == 3 * HUGE_PAGE_BYTES
    assert HugePages(tmp_path / "none").free_bytes() == 0


def test_pages_are_added_as_missing_and_given_back(tmp_path: Path) -> None:
    pages = counters(tmp_path, total=4, free=1)
    pages.reserve(3 * HUGE_PAGE_BYTES)
    assert int((tmp_path / "nr_hugepages").read_text()) == 6
    pages.give_back()
    assert int((tmp_path / "nr_hugepages").read_text()) == 4


def test_what_others_gave_back_while_it_is_mapped_is_not_kept_for_good(tmp_path: Path) -> None:
    pages = counters(tmp_path, total=4, free=0)
    pages.reserve(3 * HUGE_PAGE_BYTES)
    # The other four were given back under somebody who maps them: they are counted until that ends.
    (tmp_path / "surplus_hugepages").write_text("4\n")
    pages.give_back()
    assert int((tmp_path / "nr_hugepages").read_text()) == 0


def test_nothing_is_asked_for_when_enough_is_free(tmp_path: Path) -> None:
    pages = counters(tmp_path, total=4, free=4)
    pages.reserve(HUGE_PAGE_BYTES)
    assert (tmp_path / "nr_hugepages").read_text() == "4\n"


def test_chunks_that_are_no_whole_huge_pages_live_on_small_ones(tmp_path: Path) -> None:
    with MemfdPool(1, 64 * 1024, counters(tmp_path, total=4, free=4)) as pool:
        assert pool.backing == "memfd-4k"


def test_a_pool_without_buffers_says_so() -> None:
    with MemfdPool(0, 64 * 1024, None) as pool:
        assert pool.backing == "none"


def test_what_a_killed_process_reserved_is_adopted_and_given_back(tmp_path: Path) -> None:
    state = tmp_path / "huge_pages.json"
    counters(tmp_path, total=4, free=0)
    HugePages(tmp_path, state).reserve(3 * HUGE_PAGE_BYTES)
    assert int((tmp_path / "nr_hugepages").read_text()) == 7
    successor = HugePages(tmp_path, state)
    successor.adopt()
    (tmp_path / "free_hugepages").write_text("3")
    successor.reserve(5 * HUGE_PAGE_BYTES)
    assert int((tmp_path / "nr_hugepages").read_text()) == 9, "only what is missing is added"
    successor.give_back()
    assert int((tmp_path / "nr_hugepages").read_text()) == 4
    assert not state.exists()


def test_no_more_is_given_back_than_was_added(tmp_path: Path) -> None:
    state = tmp_path / "huge_pages.json"
    counters(tmp_path, total=4, free=0)
    HugePages(tmp_path, state).reserve(3 * HUGE_PAGE_BYTES)
    (tmp_path / "nr_hugepages").write_text("5")  # killed before the kernel had found all of them
    successor = HugePages(tmp_path, state)
    successor.adopt()
    successor.give_back()
    assert int((tmp_path / "nr_hugepages").read_text()) == 4


def test_a_note_of_another_boot_or_a_torn_one_means_nothing(tmp_path: Path) -> None:
    state = tmp_path / "huge_pages.json"
    counters(tmp_path, total=9, free=0)
    for note in ('{"boot_id": "another", "before": 0, "added": 9}', '{"boot_id"', "[]"):
        state.write_text(note)
        successor = HugePages(tmp_path, state)
        successor.adopt()
        successor.give_back()
        assert int((tmp_path / "nr_hugepages").read_text()) == 9


def test_those_who_end_at_the_same_moment_give_back_all_their_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (counters(tmp_path, total=0, free=0) for _ in range(2))
    first.reserve(2 * HUGE_PAGE_BYTES)
    second.reserve(3 * HUGE_PAGE_BYTES)
    assert int((tmp_path / "nr_hugepages").read_text()) == 5
    reading, write = threading.Event(), first._write

    def write_late(pages: int) -> None:
        reading.set()
        other.join(timeout=0.2)  # which waits for us, or has changed the count that we have read
        write(pages)

    monkeypatch.setattr(first, "_write", write_late)
    other = threading.Thread(target=lambda: reading.wait() and second.give_back())
    other.start()
    first.give_back()
    other.join()
    assert int((tmp_path / "nr_hugepages").read_text()) == 0

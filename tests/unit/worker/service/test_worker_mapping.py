"""Mapping chunks of real memfds into one range."""

import gc
import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kindling.platform.errors import DataLossError
from kindling.platform.fd_passing import Extent
from kindling.worker.adapters.mapping import HUGE_PAGE_BYTES, PartitionMapping

CHUNK = 4 * mmap.PAGESIZE


@contextmanager
def chunks(data: bytes, chunk_bytes: int = CHUNK, flags: int = 0) -> Iterator[tuple[list[Extent], list[int]]]:
    """``data`` in memory files of one chunk each, read-only, and the extents that say so."""
    extents, fds = [], []
    for offset in range(0, len(data), chunk_bytes):
        piece = data[offset : offset + chunk_bytes]
        writable = os.memfd_create("chunk", os.MFD_CLOEXEC | flags)
        os.ftruncate(writable, chunk_bytes)
        with mmap.mmap(writable, chunk_bytes) as memory:
            memory[: len(piece)] = piece
        extents.append(Extent(offset, len(piece), len(fds), 0))
        fds.append(os.open(f"/proc/self/fd/{writable}", os.O_RDONLY | os.O_CLOEXEC))
        os.close(writable)
    try:
        yield extents, fds
    finally:
        for fd in fds:
            os.close(fd)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 5 * CHUNK), st.randoms(use_true_random=False))
def test_chunks_appear_as_one_file_whatever_its_length(size_bytes: int, random) -> None:  # type: ignore[no-untyped-def]
    data = random.randbytes(size_bytes)
    mapping = PartitionMapping(size_bytes)
    with chunks(data) as (extents, fds):
        mapping.map_extents(extents, fds)
    # The descriptors are closed by now; the mapping holds the memory by itself.
    assert bytes(memoryview(mapping.buffer)) == data


def test_a_real_file_can_stand_in_for_chunks(tmp_path: Path) -> None:
    data = os.urandom(3 * CHUNK + 77)
    path = tmp_path / "partition"
    path.write_bytes(data)
    mapping = PartitionMapping(len(data))
    with chunks(data[:CHUNK]) as (extents, fds):
        mapping.map_extents(extents, fds)
    fd = os.open(path, os.O_RDONLY)
    mapping.map_extents([Extent(CHUNK, len(data) - CHUNK, 0, CHUNK)], [fd])
    os.close(fd)
    assert bytes(memoryview(mapping.buffer)) == data


def test_what_the_owner_writes_later_is_seen() -> None:
    writable = os.memfd_create("chunk")
    os.ftruncate(writable, CHUNK)
    mapping = PartitionMapping(CHUNK)
    readable = os.open(f"/proc/self/fd/{writable}", os.O_RDONLY)
    mapping.map_extents([Extent(0, CHUNK, 0, 0)], [readable])
    os.pwrite(writable, b"arrived", 100)
    assert bytes(memoryview(mapping.buffer)[100:107]) == b"arrived"
    os.close(readable)
    os.close(writable)


def test_the_memory_cannot_be_written() -> None:
    program = (
        "from test_worker_mapping import *\n"
        "mapping = PartitionMapping(CHUNK)\n"
        "with chunks(b'x' * CHUNK) as (extents, fds):\n"
        "    mapping.map_extents(extents, fds)\n"
        "print(bytes(mapping.buffer[:1]), flush=True)\n"
        "mapping.buffer[0] = 1\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    ended = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=False)
    assert (ended.returncode, ended.stdout) == (-11, b"b'x'\n")


def test_views_outlive_the_mapping_and_show_zeros_after_it_retired() -> None:
    mapping = PartitionMapping(2 * CHUNK)
    with chunks(b"x" * (2 * CHUNK)) as (extents, fds):
        mapping.map_extents(extents, fds)
    view = memoryview(mapping.buffer)
    assert bytes(view) == b"x" * (2 * CHUNK)
    assert mapped_memfd_kib() == 2 * CHUNK // 1024
    mapping.retire()
    assert mapped_memfd_kib() == 0
    del mapping
    gc.collect()
    assert bytes(view) == b"\0" * (2 * CHUNK)


def test_addresses_go_back_with_the_last_view() -> None:
    mapping = PartitionMapping(2**30)
    before = virtual_bytes()
    view = memoryview(mapping.buffer)
    del mapping
    assert virtual_bytes() >= before
    del view
    gc.collect()
    assert virtual_bytes() <= before - 2**30


def test_extents_can_be_replaced_while_they_are_read() -> None:
    mapping = PartitionMapping(2 * CHUNK)
    for letter in (b"a", b"b"):
        with chunks(letter * (2 * CHUNK)) as (extents, fds):
            mapping.map_extents(extents, fds)
        assert bytes(memoryview(mapping.buffer)) == letter * (2 * CHUNK)


def test_a_retired_mapping_can_be_retired_again() -> None:
    mapping = PartitionMapping(100)
    mapping.retire()
    mapping.retire()
    assert bytes(memoryview(mapping.buffer)) == b"\0" * 100


@pytest.mark.parametrize(
    "extent",
    [
        Extent(0, CHUNK + 1, 0, 0),
        Extent(2 * CHUNK, CHUNK, 0, 0),
        Extent(-CHUNK, CHUNK, 0, 0),
        Extent(0, 0, 0, 0),
        Extent(0, -CHUNK, 0, 0),
        Extent(0, CHUNK, 0, -CHUNK),
        Extent(0, CHUNK, 0, mmap.PAGESIZE),
        Extent(1, 10, 0, 0),
        Extent(2**63, CHUNK, 0, 0),
    ],
)
def test_an_extent_outside_of_its_file_or_partition_is_refused(extent: Extent) -> None:
    mapping = PartitionMapping(2 * CHUNK)
    with chunks(b"x" * CHUNK) as (_, fds), pytest.raises(DataLossError) as caught:
        mapping.map_extents([extent], fds)
    assert caught.value.reason == "EXTENT_INVALID"


def test_an_extent_past_the_end_of_a_real_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "short"
    path.write_bytes(b"x" * 10)
    fd = os.open(path, os.O_RDONLY)
    with pytest.raises(DataLossError):
        PartitionMapping(CHUNK).map_extents([Extent(0, CHUNK, 0, 0)], [fd])
    os.close(fd)


def test_huge_pages_lie_side_by_side_with_an_unaligned_tail() -> None:
    data = os.urandom(2 * HUGE_PAGE_BYTES + 12345)
    mapping = PartitionMapping(len(data))
    with huge_pages(3), chunks(data, HUGE_PAGE_BYTES, os.MFD_HUGETLB) as (extents, fds):
        mapping.map_extents(extents, fds)
        assert bytes(memoryview(mapping.buffer)) == data
        mapping.retire()


@contextmanager
def huge_pages(count: int) -> Iterator[None]:
    """Have that many more huge pages for a while; a machine that has none to give cannot run the test."""
    path = Path("/proc/sys/vm/nr_hugepages")
    before = int(path.read_text())
    try:
        path.write_text(str(before + count))
    except OSError:
        pytest.skip("this machine lends no huge pages to its users")
    try:
        yield
    finally:
        path.write_text(str(before))


def mapped_memfd_kib() -> int:
    """Resident memory of this process that belongs to test chunks."""
    total, counting = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(" ", 1)[0] and ":" not in line.split(" ", 1)[0]:
            counting = "memfd:chunk" in line
        elif counting and line.startswith("Rss:"):
            total += int(line.split()[1])
    return total


def virtual_bytes() -> int:
    """Address space of this process."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE

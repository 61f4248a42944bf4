"""Pool memory: nobody but the storage manager can write it, and reused memory is never seen by an earlier holder."""

import mmap
import os

import pytest

from kindling.storage.adapters.memfd_pool import MemfdPool
from kindling.storage.adapters.shared_buffer import SharedBuffer

SIZE = 64 * 1024


def test_a_given_descriptor_reads_and_cannot_write_by_any_way() -> None:
    buffer = SharedBuffer(SIZE, huge=False)
    buffer.view[:5] = b"hello"
    fd = buffer.read_only_descriptor()
    assert os.pread(fd, 5, 0) == b"hello"
    with pytest.raises(PermissionError):
        mmap.mmap(fd, SIZE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pwrite(fd, b"x", 0)
    reopened = os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
    with pytest.raises(PermissionError):
        mmap.mmap(reopened, SIZE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    with pytest.raises(PermissionError):
        os.pwrite(reopened, b"x", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(reopened, 0)
    os.close(reopened)
    buffer.view[:5] = b"later"
    assert os.pread(fd, 5, 0) == b"later"
    buffer.close()


def test_memory_is_private_only_when_no_descriptor_and_no_mapping_is_left() -> None:
    buffer = SharedBuffer(SIZE, huge=False)
    given = os.dup(buffer.read_only_descriptor())
    mapped = mmap.mmap(given, SIZE, mmap.MAP_SHARED, mmap.PROT_READ)
    buffer.withdraw()
    assert not buffer.is_private()
    os.close(given)
    assert not buffer.is_private()
    mapped.close()
    assert buffer.is_private()
    buffer.close()


def test_touching_changes_no_byte() -> None:
    buffer = SharedBuffer(SIZE, huge=False)
    buffer.view[:3] = b"abc"
    buffer.touch()
    assert bytes(buffer.view[:4]) == b"abc\0"
    buffer.close()


def test_a_buffer_that_somebody_still_maps_gets_new_memory_when_reused() -> None:
    with MemfdPool(2, SIZE, None) as pool:
        assert (pool.backing, pool.page_bytes) == ("memfd-4k", mmap.PAGESIZE)
        pool.view(0)[:3] = pool.view(1)[:3] = b"old"
        kept, let_go = os.dup(pool.descriptor(0)), os.dup(pool.descriptor(1))
        os.close(let_go)
        second = pool.view(1)
        pool.recycle((0, 1))
        pool.view(0)[:3] = pool.view(1)[:3] = b"new"
        assert os.pread(kept, 3, 0) == b"old"
        assert bytes(second[:3]) == b"new", "memory that nobody holds is used again"
        os.close(kept)
        second.release()

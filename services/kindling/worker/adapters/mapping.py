"""A partition's file as one contiguous range of this process's memory, put together from shared chunks. Linux only."""

import ctypes
import mmap
import os
import weakref
from collections.abc import Sequence
from typing import Final

from kindling.platform.errors import DataLossError, ResourceExhaustedError
from kindling.platform.fd_passing import Extent

HUGE_PAGE_BYTES: Final = 2 * 2**20
PAGE_BYTES: Final = mmap.PAGESIZE
_PROT_NONE = 0
_MAP_FIXED = 0x10
_MAP_NORESERVE = 0x4000
_FAILED = ctypes.c_void_p(-1).value
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


class PartitionMapping:
    """``size_bytes`` of address space, aligned for huge pages, whose bytes come from the extents mapped into it.

    Views made of ``buffer`` stay safe to read for as long as they exist: after ``retire`` they show zeros, and the
    addresses go back to the system with the last of them. The memory is read-only to the CPU whatever Python says.
    """

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self._reserved_bytes = _round_up(max(size_bytes, 1), HUGE_PAGE_BYTES)
        slack_bytes = HUGE_PAGE_BYTES
        start = _map(None, self._reserved_bytes + slack_bytes, _PROT_NONE, _anonymous(), -1, 0)
        self._address = _round_up(start, HUGE_PAGE_BYTES)
        self.buffer: ctypes.Array[ctypes.c_ubyte] = (ctypes.c_ubyte * size_bytes).from_address(self._address)
        # The buffer's owner is whoever looks at it last: an engine's tensors may outlive this object.
        finalizer = weakref.finalize(self.buffer, _libc.munmap, start, self._reserved_bytes + slack_bytes)
        finalizer.atexit = False

    def map_extents(self, extents: Sequence[Extent], fds: Sequence[int]) -> None:
        """Show the extents, replacing what was there before; the descriptors may be closed afterwards.

        Raises:
            DataLossError: EXTENT_INVALID, if an extent lies outside the partition or its descriptor's file.
            ResourceExhaustedError: MAPPING_FAILED, if the kernel refuses.
        """
        for extent in extents:
            fd = fds[extent.fd]
            file = os.fstat(fd)
            self._require_inside(extent, file)
            length = _round_up(extent.length, _page_bytes(file))
            _map(self._address + extent.file_offset, length, mmap.PROT_READ, _fixed_shared(), fd, extent.fd_offset)

    def retire(self) -> None:
        """Let go of the shared memory; blocks for as long as unmapping takes, without the interpreter's lock."""
        _map(self._address, self._reserved_bytes, mmap.PROT_READ, _anonymous() | _MAP_FIXED, -1, 0)

    def _require_inside(self, extent: Extent, file: os.stat_result) -> None:
        inside = extent.length > 0 and 0 <= extent.file_offset <= self.size_bytes - extent.length
        backed = 0 <= extent.fd_offset <= file.st_size - extent.length
        aligned = extent.file_offset % PAGE_BYTES == 0 == extent.fd_offset % PAGE_BYTES
        if not (inside and backed and aligned):
            raise DataLossError(
                f"The storage manager handed over memory that does not fit the checkpoint: {extent} of a partition of "
                f"{self.size_bytes} bytes.",
                reason="EXTENT_INVALID",
            )


def _map(address: int | None, length: int, protection: int, flags: int, fd: int, offset: int) -> int:
    mapped: int | None = _libc.mmap(address, length, protection, flags, fd, offset)
    if mapped is None or mapped == _FAILED:
        error = os.strerror(ctypes.get_errno())
        raise ResourceExhaustedError(
            f"Mapping {length} bytes failed: {error}; free memory, or raise the limits of address space and of the "
            "number of mappings (vm.max_map_count).",
            reason="MAPPING_FAILED",
            metadata={"bytes": str(length), "error": error},
        )
    return mapped


def _anonymous() -> int:
    return mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE


def _fixed_shared() -> int:
    return mmap.MAP_SHARED | _MAP_FIXED


def _page_bytes(file: os.stat_result) -> int:
    """The unit in which the file can be mapped: that of hugetlbfs is its huge page."""
    return HUGE_PAGE_BYTES if file.st_blksize == HUGE_PAGE_BYTES else PAGE_BYTES


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit

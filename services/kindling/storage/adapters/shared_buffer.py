"""One pool buffer: memory that this process writes and others can map for reading only."""

import ctypes
import fcntl
import mmap
import os
import sys
from contextlib import suppress

_MFD_HUGE_2MB = 21 << 26
_F_ADD_SEALS = 1033
_F_SEAL_SHRINK, _F_SEAL_GROW, _F_SEAL_FUTURE_WRITE = 0x2, 0x4, 0x10
_MADV_POPULATE_WRITE = 23
_libc = ctypes.CDLL(None, use_errno=True)


class SharedBuffer:
    """A memfd of its own. After construction nobody, not even root, can map it writable or write to it again, except
    through the mapping made here. Constructing raises OSError if there is no memory (or huge page) for it.
    """

    def __init__(self, size_bytes: int, *, huge: bool) -> None:
        self.size_bytes = size_bytes
        self.huge = huge
        created = os.memfd_create("kindling-chunk", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | _huge_flags(huge))
        try:
            os.ftruncate(created, size_bytes)
            self._map = mmap.mmap(created, size_bytes)
            fcntl.fcntl(created, _F_ADD_SEALS, _F_SEAL_FUTURE_WRITE | _F_SEAL_SHRINK | _F_SEAL_GROW)
            # The kernel counts this one among the inode's openers, but not the one from memfd_create: see is_private.
            self._descriptor = os.open(f"/proc/self/fd/{created}", os.O_RDWR | os.O_CLOEXEC)
        finally:
            os.close(created)
        self._read_only = -1
        self.view = memoryview(self._map)

    def read_only_descriptor(self) -> int:
        """Return a descriptor that can be given away; it stays ours to close (:meth:`withdraw`)."""
        if self._read_only < 0:
            self._read_only = os.open(f"/proc/self/fd/{self._descriptor}", os.O_RDONLY | os.O_CLOEXEC)
        return self._read_only

    @property
    def was_shared(self) -> bool:
        """Whether a descriptor was given away since the last :meth:`withdraw`."""
        return self._read_only >= 0

    def withdraw(self) -> None:
        """Close our copy of the descriptor given away."""
        if self._read_only >= 0:
            os.close(self._read_only)
            self._read_only = -1

    def is_private(self) -> bool:
        """Whether no other process has the memory open or mapped, by the kernel's own count.

        A write lease (fcntl F_SETLEASE) is granted only on a file that nobody else has open, and a mapping counts as
        open. False too where the kernel gives no leases.
        """
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError:
            return False
        fcntl.fcntl(self._descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return True

    def touch(self) -> None:
        """Make every page present, without changing a byte and without holding the interpreter's lock."""
        anchor = ctypes.c_char.from_buffer(self._map)
        result = _libc.madvise(
            ctypes.c_void_p(ctypes.addressof(anchor)), ctypes.c_size_t(self.size_bytes), _MADV_POPULATE_WRITE
        )
        if result != 0:  # a kernel before 5.14: allocate at least, the page table fills at first use
            os.posix_fallocate(self._descriptor, 0, self.size_bytes)

    def close(self) -> None:
        """Give the memory back; processes that have it mapped keep it."""
        self.withdraw()
        os.close(self._descriptor)
        # A reader that still has a slice keeps the mapping until it lets go.
        with suppress(BufferError):
            self.view.release()
            self._map.close()


def _huge_flags(huge: bool) -> int:
    if not huge:
        return 0
    if sys.platform != "linux":
        raise OSError("huge pages need Linux")
    return os.MFD_HUGETLB | _MFD_HUGE_2MB

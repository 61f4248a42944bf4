"""A file that is read and written past the page cache, where its file system can do that."""

import errno
import os
from pathlib import Path

from kindling.storage.settings import PAGE_BYTES


class DirectFile:
    """An open file. O_DIRECT needs whole pages at aligned offsets and addresses; the rest goes the ordinary way.

    Raises OSError like the calls it makes; EOFError if the file ends too soon.
    """

    def __init__(self, path: Path, *, writable: bool = False) -> None:
        access = os.O_RDWR if writable else os.O_RDONLY
        self._fd = os.open(path, access | os.O_CLOEXEC)
        self._read_only = self._fd
        self._direct_fd = _open_direct(path, access)
        if writable:
            self._read_only = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self, into: memoryview, length: int, offset: int, *, cached: bool = False) -> None:
        """Fill ``into[:length]`` from ``offset``. ``into`` may be longer: whole pages are read if they fit."""
        done = 0
        whole_pages = -(-length // PAGE_BYTES) * PAGE_BYTES
        if not cached and self._direct_fd >= 0 and whole_pages <= len(into) and offset % PAGE_BYTES == 0:
            done = self._read_direct(into[:whole_pages], offset)
        while done < length:
            count = os.preadv(self._fd, [into[done:length]], offset + done)
            if count == 0:
                raise EOFError(f"the file ends at {offset + done}, {length - done} bytes too soon")
            done += count

    def _read_direct(self, into: memoryview, offset: int) -> int:
        """Read what can be read in whole pages; return how many bytes came, for the ordinary way to go on from."""
        done = 0
        while done < len(into) and done % PAGE_BYTES == 0:
            try:
                count = os.preadv(self._direct_fd, [into[done:]], offset + done)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                return done
            if count == 0:
                break
            done += count
        return done

    def write(self, data: memoryview, offset: int, *, cached: bool = False) -> None:
        """Write all of ``data`` at ``offset``."""
        done = 0
        whole_pages = len(data) // PAGE_BYTES * PAGE_BYTES
        if not cached and self._direct_fd >= 0 and offset % PAGE_BYTES == 0:
            done = self._write_direct(data[:whole_pages], offset)
        while done < len(data):
            done += os.pwrite(self._fd, data[done:], offset + done)

    def _write_direct(self, data: memoryview, offset: int) -> int:
        done = 0
        while done < len(data) and done % PAGE_BYTES == 0:
            try:
                done += os.pwrite(self._direct_fd, data[done:], offset + done)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                return done
        return done

    def allocate(self, size_bytes: int) -> None:
        """Give the file ``size_bytes`` now, so that a full disk shows now; OSError ENOSPC if it does."""
        try:
            os.posix_fallocate(self._fd, 0, size_bytes)
        except OSError as error:
            if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL}:
                raise
            os.ftruncate(self._fd, size_bytes)

    def sync(self) -> None:
        """Return when everything written has reached the device."""
        os.fsync(self._fd)

    def descriptor(self) -> int:
        """A read-only descriptor, through the page cache; it stays this object's to close."""
        return self._read_only

    def size_bytes(self) -> int:
        """The file's length."""
        return os.fstat(self._fd).st_size

    def close(self) -> None:
        """Close the file; descriptors given away stay open where they are."""
        for fd in {self._fd, self._read_only, self._direct_fd} - {-1}:
            os.close(fd)


def _open_direct(path: Path, access: int) -> int:
    try:
        return os.open(path, access | os.O_CLOEXEC | os.O_DIRECT)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.EOPNOTSUPP}:
            raise
        return -1

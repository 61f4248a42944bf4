"""Making reads cold: pages of files out of memory, as far as this process may."""

import os
from collections.abc import Sequence
from pathlib import Path

_DROP_CACHES = Path("/proc/sys/vm/drop_caches")
_CLEAN_PAGES = "1\n"


class PageCache:
    """Drops what the kernel keeps of ``files``: of everything where permitted, else of these files alone."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        self.drops_everything = os.access(_DROP_CACHES, os.W_OK)

    @property
    def note(self) -> str:
        """How it is done, for the report."""
        if self.drops_everything:
            return "cold: the whole page cache was dropped before each measurement (drop_caches)"
        return "cold: drop_caches is not permitted, so the files' pages were given up by posix_fadvise (weaker)"

    def drop(self) -> None:
        """Return once what could be dropped is dropped; what was written is on the disk then."""
        os.sync()
        if self.drops_everything:
            _DROP_CACHES.write_text(_CLEAN_PAGES)
        for path in self._files:
            _forget(path)

    def warm(self, path: Path) -> None:
        """Read ``path`` once, so that it is in the page cache if there is room."""
        with path.open("rb", buffering=0) as file:
            room = bytearray(16 << 20)
            while file.readinto(room):
                pass


def _forget(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)

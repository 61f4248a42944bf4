"""2 MiB pages for the length of a run: taken at its start, given back at its end whatever happens."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kindling.storage.adapters.huge_pages import HugePages

_COMPACT = Path("/proc/sys/vm/compact_memory")


@contextmanager
def huge_pages(size_bytes: int) -> Iterator[int]:
    """Have up to ``size_bytes`` of huge pages free inside the context; yields how many bytes are."""
    pages = HugePages()
    with suppress(OSError):  # without root there is less to be had, and the report says how much
        _COMPACT.write_text("1\n")
    pages.reserve(size_bytes)
    try:
        yield min(size_bytes, pages.free_bytes())
    finally:
        pages.give_back()

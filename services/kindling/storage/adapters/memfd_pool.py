"""The DRAM tier's memory: one sealed memfd per chunk, touched in the background."""

import mmap
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from kindling.platform.errors import ResourceExhaustedError
from kindling.platform.logging import get_logger
from kindling.storage.adapters.huge_pages import HugePages
from kindling.storage.adapters.shared_buffer import SharedBuffer
from kindling.storage.settings import HUGE_PAGE_BYTES

log = get_logger(__name__)
_ADVICE = (
    "a hit in DRAM is several times slower on 4 KiB pages: reserve 2 MiB pages (sysctl vm.nr_hugepages), or set "
    "KINDLING_STORAGE_RESERVE_HUGE_PAGES=true and run as root; chunks must be whole 2 MiB pages"
)


class MemfdPool:
    """``buffer_count`` buffers of ``buffer_bytes``, on 2 MiB pages if enough are free, else on 4 KiB pages.

    Entering allocates; a thread then touches the buffers in the order in which they will be used, unless ``touch`` is
    false. A buffer can be used before it was touched, only more slowly.
    """

    def __init__(
        self, buffer_count: int, buffer_bytes: int, huge_pages: HugePages | None, *, touch: bool = True
    ) -> None:
        self.buffer_count = buffer_count
        self.buffer_bytes = buffer_bytes
        self._huge_pages = huge_pages if buffer_bytes % HUGE_PAGE_BYTES == 0 else None
        self._buffers: list[SharedBuffer] = []
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._touch = touch
        self._toucher = threading.Thread(target=self._touch_all, name="pool-toucher")

    @property
    def backing(self) -> str:
        """How the memory is had: ``hugetlb``, ``memfd-4k``, or both where pages ran out."""
        kinds = {"hugetlb" if buffer.huge else "memfd-4k" for buffer in self._buffers}
        return "+".join(sorted(kinds)) or "none"

    @property
    def page_bytes(self) -> int:
        """See PoolMemory."""
        return HUGE_PAGE_BYTES if any(buffer.huge for buffer in self._buffers) else mmap.PAGESIZE

    def view(self, buffer: int) -> memoryview:
        """The buffer's memory, writable, ``buffer_bytes`` long."""
        return self._buffers[buffer].view

    def descriptor(self, buffer: int) -> int:
        """A read-only descriptor of the buffer, to be given away."""
        return self._buffers[buffer].read_only_descriptor()

    def recycle(self, buffers: tuple[int, ...]) -> None:
        """Make ``buffers`` fit for other content: what is written from now on, no earlier recipient can see."""
        for index in buffers:
            if self._buffers[index].was_shared:
                self._recycle(index)

    def _recycle(self, index: int) -> None:
        old = self._buffers[index]
        old.withdraw()
        if not old.is_private():
            # Somebody who no longer has a lease still maps it: let them keep those pages, and take new ones.
            with self._lock:
                self._buffers[index] = self._allocate()
                old.close()

    def __enter__(self) -> Self:
        with self._lock:
            self._buffers = [self._allocate() for _ in range(self.buffer_count)]
        small = sum(not buffer.huge for buffer in self._buffers)
        log.info("pool_allocated", backing=self.backing, buffers=self.buffer_count, buffer_bytes=self.buffer_bytes)
        if small:
            log.warning("pool_on_small_pages", buffers=small, of=self.buffer_count, advice=_ADVICE)
        if self._touch:
            self._toucher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        if self._touch:
            self._toucher.join()
        for buffer in self._buffers:
            buffer.close()

    def _allocate(self) -> SharedBuffer:
        if self._has_huge_page():
            with suppress(OSError):  # somebody else took the page meanwhile
                return SharedBuffer(self.buffer_bytes, huge=True)
        try:
            return SharedBuffer(self.buffer_bytes, huge=False)
        except OSError as error:
            raise ResourceExhaustedError(
                f"the DRAM pool of {self.buffer_count} x {self.buffer_bytes} bytes cannot be allocated ({error}): "
                "lower KINDLING_STORAGE_POOL_BYTES, or raise the limits of memory and of open files (ulimit -n)",
                reason="POOL_UNAVAILABLE",
                metadata={"pool_bytes": str(self.buffer_count * self.buffer_bytes)},
            ) from error

    def _has_huge_page(self) -> bool:
        return self._huge_pages is not None and self._huge_pages.free_bytes() >= self.buffer_bytes

    def _touch_all(self) -> None:
        for index in range(self.buffer_count):
            if self._closing.is_set():
                return
            try:
                with self._lock:
                    self._buffers[index].touch()
            except OSError as error:
                log.warning("pool_touch_failed", buffer=index, error=str(error))
                return
        log.info("pool_touched", buffers=self.buffer_count)

"""The machine's 2 MiB pages: how many are free, and asking the kernel for more."""

from pathlib import Path

from kindling.platform.logging import get_logger
from kindling.storage.adapters.shared_buffer import HUGE_PAGE_BYTES

log = get_logger(__name__)
_COUNTS = Path("/sys/kernel/mm/hugepages/hugepages-2048kB")


class HugePages:
    """Counts below ``directory``; zero where the kernel has no 2 MiB pages."""

    def __init__(self, directory: Path = _COUNTS) -> None:
        self._directory = directory
        self._added = 0

    def free_bytes(self) -> int:
        """Bytes of huge pages that nobody has or has been promised."""
        return max(0, self._read("free_hugepages") - self._read("resv_hugepages")) * HUGE_PAGE_BYTES

    def reserve(self, size_bytes: int) -> None:
        """Try to have ``size_bytes`` free; without the permission or the memory nothing happens."""
        missing = -(-(size_bytes - self.free_bytes()) // HUGE_PAGE_BYTES)
        if missing <= 0:
            return
        before = self._read("nr_hugepages")
        self._write(before + missing)
        self._added = max(0, self._read("nr_hugepages") - before)
        log.info("huge_pages_reserved", pages=self._added, wanted=missing)

    def give_back(self) -> None:
        """Return what :meth:`reserve` added."""
        if self._added:
            self._write(max(0, self._read("nr_hugepages") - self._added))
            self._added = 0

    def _read(self, name: str) -> int:
        try:
            return int((self._directory / name).read_text())
        except OSError:
            return 0

    def _write(self, pages: int) -> None:
        try:
            (self._directory / "nr_hugepages").write_text(str(pages))
        except OSError as error:
            log.info("huge_pages_refused", error=str(error))

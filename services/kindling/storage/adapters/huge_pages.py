"""The machine's 2 MiB pages: how many are free, and asking the kernel for more."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from kindling.platform.logging import get_logger
from kindling.storage.settings import HUGE_PAGE_BYTES

log = get_logger(__name__)
_COUNTS = Path("/sys/kernel/mm/hugepages/hugepages-2048kB")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class _Reservation:
    """``added`` pages on top of the ``before`` that the kernel had, since the boot named."""

    boot_id: str
    before: int
    added: int


class HugePages:
    """Counts below ``directory``; zero where the kernel has no 2 MiB pages.

    What was asked for is noted in ``state_file``, so that a successor can give back what a killed process no longer
    could: the kernel's count outlives whoever raised it.
    """

    def __init__(self, directory: Path = _COUNTS, state_file: Path | None = None) -> None:
        self._directory = directory
        self._state_file = state_file
        self._before = 0
        self._added = 0

    def free_bytes(self) -> int:
        """Bytes of huge pages that nobody has or has been promised."""
        return max(0, self._read("free_hugepages") - self._read("resv_hugepages")) * HUGE_PAGE_BYTES

    def adopt(self) -> None:
        """Make what a predecessor that died had reserved ours, to be used or given back."""
        left = self._predecessors()
        if left is not None and left.boot_id == _boot_id():
            self._before = left.before
            self._added = min(left.added, max(0, self._kept() - left.before))
            log.info("huge_pages_adopted", pages=self._added)

    def reserve(self, size_bytes: int) -> None:
        """Try to have ``size_bytes`` free; without the permission or the memory nothing happens."""
        with self._alone():
            self._reserve(size_bytes)

    def give_back(self) -> None:
        """Return what :meth:`reserve` added or :meth:`adopt` found."""
        if self._added:
            with self._alone():
                self._write(max(0, self._kept() - self._added))
            self._added = 0
        if self._state_file is not None:
            self._state_file.unlink(missing_ok=True)

    def _reserve(self, size_bytes: int) -> None:
        missing = -(-(size_bytes - self.free_bytes()) // HUGE_PAGE_BYTES)
        if missing <= 0:
            return
        total, kept = self._read("nr_hugepages"), self._kept()
        if not self._added:
            self._before = kept
        earlier = self._added
        self._note(earlier + missing)  # first, since finding the pages takes a while in which we may be killed
        self._write(total + missing)
        self._added = earlier + max(0, self._kept() - kept)
        self._note(self._added)
        log.info("huge_pages_reserved", pages=self._added - earlier, wanted=missing)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep others from the count meanwhile: two that read it, and then both write it, undo each other's change."""
        try:
            directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            yield  # there is no count
            return
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            yield
        finally:
            os.close(directory)

    def _predecessors(self) -> _Reservation | None:
        if self._state_file is None:
            return None
        try:
            return _Reservation(**json.loads(self._state_file.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def _note(self, added: int) -> None:
        if self._state_file is not None:
            self._state_file.write_text(json.dumps(asdict(_Reservation(_boot_id(), self._before, added))))

    def _kept(self) -> int:
        """Pages that stay when they are free: those given back while somebody maps them are a surplus that goes."""
        return max(0, self._read("nr_hugepages") - self._read("surplus_hugepages"))

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


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""

"""How much memory the storage manager and a worker take together, at most."""

import re
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

_INTERVAL_SECONDS = 0.01
_FIELD = re.compile(r"^(RssAnon|RssFile|RssShmem|HugetlbPages):\s+(\d+) kB", re.MULTILINE)


def resident_bytes(pid: int) -> dict[str, int]:
    """What the kernel counts for a process, by kind; nothing if it has gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return {}
    return {name: int(kib) * 1024 for name, kib in _FIELD.findall(status)}


class MemorySampler:
    """Looks at both processes a hundred times a second inside ``with``.

    The pool is shared: it counts once, at the storage manager. huge pages are no part of a process's resident size and
    are added.
    """

    def __init__(self, storage_pid: int) -> None:
        self._storage_pid = storage_pid
        self._worker_pid = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.peak_bytes = 0
        self.peak_without_pool_bytes = 0

    def follow_worker(self, pid: int) -> None:
        """From now on this process is the worker."""
        self._worker_pid = pid

    def _run(self) -> None:
        while not self._ended.wait(_INTERVAL_SECONDS):
            self._look()

    def _look(self) -> None:
        storage = resident_bytes(self._storage_pid)
        worker = resident_bytes(self._worker_pid) if self._worker_pid else {}
        pool = storage.get("RssShmem", 0) + storage.get("HugetlbPages", 0)
        private = sum(counts.get(kind, 0) for counts in (storage, worker) for kind in ("RssAnon", "RssFile"))
        self.peak_bytes = max(self.peak_bytes, pool + private)
        self.peak_without_pool_bytes = max(self.peak_without_pool_bytes, private)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

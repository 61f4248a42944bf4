"""Which chunks of a checkpoint are in memory, as the engine's thread may wait for them."""

import threading
from collections.abc import Iterable

from kindling.platform.errors import KindlingError


class Arrivals:
    """Chunks by number; filled on the event loop, waited for on other threads."""

    def __init__(self, chunk_count: int) -> None:
        self._missing = set(range(chunk_count))
        self._failure: KindlingError | None = None
        self._changed = threading.Condition()

    @property
    def complete(self) -> bool:
        """Whether every chunk has arrived."""
        return not self._missing

    def add(self, chunks: Iterable[int]) -> None:
        """These chunks can be read."""
        with self._changed:
            self._missing.difference_update(chunks)
            self._changed.notify_all()

    def fail(self, error: KindlingError) -> None:
        """No more chunks will come; waiting for a missing one raises ``error``."""
        with self._changed:
            self._failure = self._failure or error
            self._changed.notify_all()

    def wait(self, chunks: Iterable[int]) -> None:
        """Block until all of ``chunks`` have arrived; raises what the load failed with."""
        if self.complete:
            return
        wanted = set(chunks)
        with self._changed:
            self._changed.wait_for(lambda: self._failure is not None or self._missing.isdisjoint(wanted))
            if self._failure is not None and not self._missing.isdisjoint(wanted):
                raise self._failure

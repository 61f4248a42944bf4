"""Which chunks of a checkpoint are in memory, as the engine's thread may wait for them."""

import threading
from collections.abc import Iterable, Iterator

from kindling.platform.errors import KindlingError


class Arrivals:
    """Chunks by number; filled on the event loop, waited for on other threads."""

    def __init__(self, chunk_count: int) -> None:
        self._missing = set(range(chunk_count))
        self._order: list[int] = []
        self._failure: KindlingError | None = None
        self._changed = threading.Condition()

    @property
    def complete(self) -> bool:
        """Whether every chunk has arrived."""
        return not self._missing

    def add(self, chunks: Iterable[int]) -> None:
        """These chunks can be read."""
        with self._changed:
            new = [chunk for chunk in chunks if chunk in self._missing]
            self._order += new
            self._missing.difference_update(new)
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

    def in_order(self) -> Iterator[int]:
        """Yield every chunk once, as they arrive, blocking for the next; raises what the load failed with."""
        seen = 0
        while batch := self._next(seen):
            yield from batch
            seen += len(batch)

    def _next(self, seen: int) -> list[int]:
        """Chunks that arrived after the first ``seen``, at least one; none once all have been seen."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._order) > seen or not self._missing or self._failure is not None)
            if len(self._order) == seen and self._missing:
                assert self._failure is not None, "a wait ends with chunks or an error"
                raise self._failure
            return self._order[seen:]

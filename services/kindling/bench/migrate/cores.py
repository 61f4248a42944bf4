"""Each worker computes on a core of its own; everything else shares what is left."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psutil


class Cores:
    """Pins processes. Where there are no cores left for the others, they share all of them."""

    def __init__(self, workers: Sequence[str]) -> None:
        self._all = sorted(os.sched_getaffinity(0))
        self._core_of = {worker: self._all[index % len(self._all)] for index, worker in enumerate(workers)}

    @property
    def rest(self) -> set[int]:
        """The cores of those that do not compute."""
        return set(self._all[len(self._core_of) :]) or set(self._all)

    @property
    def note(self) -> str:
        """What readers of the figures must know."""
        if len(self._all) < len(self._core_of):
            return "there are fewer cores than workers: the workers share them"
        if len(self._all) == len(self._core_of):
            return "each worker is pinned to a core; clients, gateway, scheduler, storage and etcd use the same cores"
        return "each worker is pinned to a core of its own; everything else runs on the others"

    def pin(self, pid: int, worker: str) -> None:
        """Keep all threads of a worker's process on its core."""
        _pin(pid, {self._core_of[worker]})

    def pin_rest(self, pid: int) -> None:
        """Keep another process on what is left."""
        _pin(pid, self.rest)

    @contextmanager
    def born_on_core_of(self, worker: str) -> Iterator[None]:
        """Processes that this thread starts meanwhile stay on the worker's core: they inherit it."""
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {self._core_of[worker]})
        try:
            yield
        finally:
            os.sched_setaffinity(0, before)


def _pin(pid: int, cores: set[int]) -> None:
    for thread in psutil.Process(pid).threads():
        try:
            os.sched_setaffinity(thread.id, cores)
        except ProcessLookupError:
            continue  # it has ended meanwhile

"""How much each worker's device holds, and so where a checkpoint cannot go whatever else is free."""

from kindling.scheduler.domain.values import Worker


class DeviceSizes:
    """The live workers' device memory in bytes; one that does not tell is taken to hold anything."""

    def __init__(self) -> None:
        self._told: dict[str, int] = {}
        self._silent: set[str] = set()
        self._too_small: dict[int, frozenset[str]] = {}  # by bytes, as long as no worker comes, leaves or changes

    def enter(self, worker_id: str, worker: Worker | None) -> None:
        """Take over what a worker tells; none if it is gone."""
        told = worker.memory_bytes if worker else 0
        if (self._told.get(worker_id, 0), worker_id in self._silent) == (told, worker is not None and not told):
            return
        self._too_small.clear()
        self._told.pop(worker_id, None)
        self._silent.discard(worker_id)
        if told:
            self._told[worker_id] = told
        elif worker is not None:
            self._silent.add(worker_id)

    def too_small(self, needed_bytes: int) -> frozenset[str]:
        """The workers whose device cannot hold so many bytes."""
        if (known := self._too_small.get(needed_bytes)) is None:
            known = frozenset(name for name, memory_bytes in self._told.items() if memory_bytes < needed_bytes)
            self._too_small[needed_bytes] = known
        return known

    def none_holds(self, needed_bytes: int) -> bool:
        """Whether there are workers, and none of them can hold so many bytes."""
        return bool(self._told) and not self._silent and len(self.too_small(needed_bytes)) == len(self._told)

    @property
    def largest_bytes(self) -> int:
        """The most that a device holds, of those that tell; 0 if none does."""
        return max(self._told.values(), default=0)

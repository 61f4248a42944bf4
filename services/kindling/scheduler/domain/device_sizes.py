"""How much each worker's device holds, and so where a checkpoint cannot go whatever else is free."""

import math
from collections import defaultdict

from kindling.scheduler.domain.values import Worker

_Kind = tuple[str, str]  # a node, and a kind of device


class DeviceSizes:
    """The live workers' device memory in bytes; one that does not tell is taken to hold anything."""

    def __init__(self) -> None:
        self._told: dict[str, int] = {}
        self._by_kind: defaultdict[_Kind, dict[str, float]] = defaultdict(dict)  # endless where it is not told
        self._kinds: dict[str, _Kind] = {}  # by worker
        self._too_small: dict[int, frozenset[str]] = {}  # by bytes, as long as no worker comes, leaves or changes
        self._largest: dict[int, float] = {}  # by devices, as long
        self.shared: set[str] = set()  # workers that tell, and run several instances beside each other

    def enter(self, worker_id: str, worker: Worker | None) -> None:
        """Take over what a worker tells; none if it is gone."""
        kind = (worker.node_id, worker.device_kind) if worker else None
        told = worker.memory_bytes if worker else 0
        if (self._told.get(worker_id, 0), self._kinds.get(worker_id)) != (told, kind):
            self._forget(worker_id)
            if kind is not None:
                self._kinds[worker_id], self._by_kind[kind][worker_id] = kind, told or math.inf
            if told:
                self._told[worker_id] = told
        belongs = worker is not None and told > 0 and worker.slots > 1
        self.shared.add(worker_id) if belongs else self.shared.discard(worker_id)

    def _forget(self, worker_id: str) -> None:
        self._too_small.clear()
        self._largest.clear()
        self._told.pop(worker_id, None)
        if (kind := self._kinds.pop(worker_id, None)) is not None:
            del self._by_kind[kind][worker_id]
            if not self._by_kind[kind]:
                del self._by_kind[kind]

    def too_small(self, needed_bytes: int) -> frozenset[str]:
        """The workers whose device cannot hold so many bytes."""
        if (known := self._too_small.get(needed_bytes)) is None:
            known = frozenset(name for name, memory_bytes in self._told.items() if memory_bytes < needed_bytes)
            self._too_small[needed_bytes] = known
        return known

    def can_hold(self, needed_bytes: int, devices: int = 1) -> bool:
        """Whether so many devices of a node, all of a kind, can hold so many bytes each; so it is taken to be while
        there are no workers at all."""
        return not self._kinds or needed_bytes <= self.largest_bytes(devices)

    def largest_bytes(self, devices: int = 1) -> float:
        """The most that each of so many devices of one node and kind holds, endless where one does not tell; negative
        if no node has so many."""
        if (known := self._largest.get(devices)) is None:
            sizes = (sorted(of_kind.values(), reverse=True) for of_kind in self._by_kind.values())
            known = max((there[devices - 1] for there in sizes if len(there) >= devices), default=-1)
            self._largest[devices] = known
        return known

    def devices_for(self, total_bytes: int) -> int | None:
        """The fewest devices of a node, two at least, that hold so many bytes together; none if no node's do."""
        most = max(map(len, self._by_kind.values()), default=0)
        return next((count for count in range(2, most + 1) if self.can_hold(-(-total_bytes // count), count)), None)

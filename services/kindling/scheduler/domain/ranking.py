"""Names in the order of their keys, without sorting them all whenever one changes."""

import heapq
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

_SLACK = 16
Key = TypeVar("Key", bound=Any)  # anything that has an order


class Ranking(Generic[Key]):
    """A heap that forgets lazily: putting costs O(log n), and so does each further name that is looked at."""

    def __init__(self) -> None:
        self._keys: dict[str, Key] = {}
        self._heap: list[tuple[Key, str]] = []

    def __len__(self) -> int:
        return len(self._keys)

    def key(self, name: str) -> Key | None:
        """The key of a name; none if it is not in."""
        return self._keys.get(name)

    def put(self, name: str, key: Key) -> None:
        """Give a name its place, or another one."""
        if name in self._keys and self._keys[name] == key:
            return
        self._keys[name] = key
        heapq.heappush(self._heap, (key, name))
        if len(self._heap) > 2 * len(self._keys) + _SLACK:
            self._heap = [(key, name) for name, key in self._keys.items()]
            heapq.heapify(self._heap)

    def drop(self, name: str) -> None:
        """Take a name out; one that is not in is ignored."""
        self._keys.pop(name, None)

    def __iter__(self) -> Iterator[tuple[Key, str]]:
        """Keys and names, the least key first, equal keys by name; to be dropped before anything is put."""
        while self._heap and not self._holds(self._heap[0]):
            heapq.heappop(self._heap)
        frontier = [(self._heap[0], 0)] if self._heap else []
        last = None
        while frontier:
            entry, position = heapq.heappop(frontier)
            for below in (2 * position + 1, 2 * position + 2):
                if below < len(self._heap):
                    heapq.heappush(frontier, (self._heap[below], below))
            if entry != last and self._holds(entry):
                yield entry
            last = entry

    def _holds(self, entry: tuple[Key, str]) -> bool:
        key, name = entry
        return name in self._keys and self._keys[name] == key

    def check_integrity(self) -> None:
        """Raise AssertionError if a name cannot be found at its place."""
        assert {(key, name) for name, key in self._keys.items()} <= set(self._heap)

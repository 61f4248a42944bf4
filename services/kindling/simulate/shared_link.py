"""A link between tiers whose transfers share its bandwidth."""

import heapq
from itertools import count

from kindling.simulate.events import Action, Events

_LEAST_SECONDS = 1e-9  # what would end sooner has ended: late in a run the clock cannot tell so little apart


class SharedLink:
    """Every transfer under way gets the same part of the bandwidth at every moment (processor sharing).

    Kept by what one transfer would have moved if it had been there from the start: each ends when that has grown by its
    own size, so that the next to end is the least of a heap.
    """

    def __init__(self, events: Events, bytes_per_second: float) -> None:
        self._events = events
        self._bytes_per_second = bytes_per_second
        self._served = 0.0
        self._served_at = 0.0
        self._order = count()
        self._under_way: list[tuple[float, int, Action]] = []
        self._version = 0

    def move(self, size_bytes: float, done: Action) -> None:
        """Begin a transfer; ``done`` is called at its end."""
        self._catch_up()
        heapq.heappush(self._under_way, (self._served + size_bytes, next(self._order), done))
        self._plan_next()

    def _catch_up(self) -> None:
        passed, self._served_at = self._events.now - self._served_at, self._events.now
        if self._under_way:
            self._served += passed * self._bytes_per_second / len(self._under_way)

    def _plan_next(self) -> None:
        self._version += 1
        version = self._version
        if self._under_way:
            left_bytes = max(0.0, self._under_way[0][0] - self._served)
            seconds = left_bytes * len(self._under_way) / self._bytes_per_second
            self._events.after(seconds, lambda: self._end(version))

    def _end(self, version: int) -> None:
        if version != self._version:
            return  # another transfer has begun or ended since
        self._catch_up()
        ended: list[Action] = []
        by_now = self._served + self._bytes_per_second * _LEAST_SECONDS
        while self._under_way and self._under_way[0][0] <= by_now:
            ended.append(heapq.heappop(self._under_way)[2])
        self._plan_next()
        for done in ended:
            done()

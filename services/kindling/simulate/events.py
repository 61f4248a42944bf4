"""Virtual time: what happens when."""

import heapq
from collections.abc import Callable
from itertools import count

Action = Callable[[], None]


class Events:
    """Actions in the order of their times; those of one moment in the order in which they were planned."""

    def __init__(self) -> None:
        self.now = 0.0
        self._order = count()
        self._planned: list[tuple[float, int, Action]] = []

    def at(self, seconds: float, action: Action) -> None:
        """Plan an action; what should have happened before happens now."""
        heapq.heappush(self._planned, (max(seconds, self.now), next(self._order), action))

    def after(self, seconds: float, action: Action) -> None:
        """Plan an action so many seconds from now."""
        self.at(self.now + seconds, action)

    def run(self) -> None:
        """Let everything happen that is planned, and what is planned meanwhile."""
        while self._planned:
            self.now, _, action = heapq.heappop(self._planned)
            action()

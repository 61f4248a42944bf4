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
        self._planned: list[tuple[float, int, Action, bool]] = []
        self._needed = 0

    def at(self, seconds: float, action: Action) -> None:
        """Plan an action; what should have happened before happens now."""
        self._needed += 1
        self._plan(seconds, action, is_needed=True)

    def after(self, seconds: float, action: Action) -> None:
        """Plan an action so many seconds from now."""
        self.at(self.now + seconds, action)

    def meanwhile(self, seconds: float, action: Action) -> None:
        """Plan an action that only happens if something else is still to come then."""
        self._plan(seconds, action, is_needed=False)

    def run(self) -> None:
        """Let everything happen that is planned, and what is planned meanwhile."""
        while self._needed:
            self.now, _, action, is_needed = heapq.heappop(self._planned)
            self._needed -= is_needed
            action()

    def _plan(self, seconds: float, action: Action, *, is_needed: bool) -> None:
        heapq.heappush(self._planned, (max(seconds, self.now), next(self._order), action, is_needed))

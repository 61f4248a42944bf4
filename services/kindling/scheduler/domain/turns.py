"""Whose turn it is: the order in which tenants get places."""

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping

from kindling.scheduler.domain.values import Request

_REMEMBERED = 1024  # tenants


class Turns:
    """The tenant with the fewest generations in flight is next, and of several the one whose last turn is longest ago.

    Each tenant's own requests stay in their order. Somebody's first request therefore gets the next free place, however
    many of another tenant wait; and who comes again and again takes turns with those who wait.
    """

    def __init__(self, in_flight: Callable[[str], int]) -> None:
        self._in_flight = in_flight
        self._last_turn: dict[str, int] = {}  # the longest ago first
        self._turn = 0

    def order(self, lines: Mapping[str, Iterable[Request]]) -> Iterator[Request]:
        """Yield everyone in the order in which they are served if nobody comes or ends, from each tenant's line.

        The first one takes time in the number of tenants, each further one in its logarithm.
        """
        waiting = {tenant: iter(line) for tenant, line in lines.items()}
        heap = [
            (self._in_flight(tenant), self._last_turn.get(tenant, 0), number, tenant)
            for number, tenant in enumerate(lines)
        ]
        heapq.heapify(heap)
        turn = self._turn
        while heap:
            in_flight, _, number, tenant = heap[0]
            request = next(waiting[tenant], None)
            if request is None:
                heapq.heappop(heap)
                continue
            yield request
            turn += 1
            heapq.heapreplace(heap, (in_flight + 1, turn, number, tenant))

    def served(self, tenant: str) -> None:
        """A tenant has had a turn."""
        self._turn += 1
        self._last_turn.pop(tenant, None)
        self._last_turn[tenant] = self._turn
        if len(self._last_turn) > _REMEMBERED:  # the oldest turn and none are the same: before all others
            del self._last_turn[next(iter(self._last_turn))]

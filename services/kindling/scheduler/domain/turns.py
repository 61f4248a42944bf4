"""Whose turn it is: the order in which tenants get places."""

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from kindling.scheduler.domain.quotas import Quota, Quotas
from kindling.scheduler.domain.values import Request

_REMEMBERED = 1024  # tenants


@dataclass(order=True, slots=True)
class _Standing:
    """How a tenant stands among those who wait: the least one is next."""

    share: float = field(init=False)
    last_turn: int
    number: int
    in_flight: int = field(compare=False)
    taken: int = field(compare=False)  # places of a turn that is not over
    quota: Quota = field(compare=False)
    line: Iterator[Request] = field(compare=False)

    def __post_init__(self) -> None:
        self.share = self.in_flight / self.quota.weight

    def next(self) -> Request | None:
        """Its next request; none if nobody waits any more, or it has as many generations as it may."""
        most = self.quota.generations
        return None if most and self.in_flight >= most else next(self.line, None)

    def take(self, turn: int) -> None:
        """It gets a place in a turn."""
        self.in_flight += 1
        self.share = self.in_flight / self.quota.weight
        self.taken += 1
        if self.taken >= self.quota.weight:
            self.last_turn, self.taken = turn, 0


class Turns:
    """The tenant with the fewest generations in flight, for its weight, is next, and of several the one whose last turn
    is longest ago; a turn is as many places in a row as its weight. Who has as many generations as it may is passed
    over.

    Each tenant's own requests stay in their order. Somebody's first request therefore gets the next free place, however
    many of another tenant wait; and who comes again and again takes turns with those who wait.
    """

    def __init__(self, in_flight: Callable[[str], int], quotas: Quotas) -> None:
        self._in_flight = in_flight
        self._quotas = quotas
        self._last_turn: dict[str, int] = {}  # the longest ago first
        self._taken: dict[str, int] = {}
        self._turn = 0

    def order(self, lines: Mapping[str, Iterable[Request]]) -> Iterator[Request]:
        """Yield everyone who may run in the order in which they are served if nobody comes or ends, from each tenant's
        line.

        The first one takes time in the number of tenants, each further one in its logarithm.
        """
        heap = [self._standing(number, *line) for number, line in enumerate(lines.items())]
        heapq.heapify(heap)
        turn = self._turn
        while heap:
            first = heap[0]
            request = first.next()
            if request is None:
                heapq.heappop(heap)
                continue
            yield request
            turn += 1
            first.take(turn)
            heapq.heapreplace(heap, first)

    def _standing(self, number: int, tenant: str, line: Iterable[Request]) -> _Standing:
        return _Standing(
            last_turn=self._last_turn.get(tenant, 0),
            number=number,
            in_flight=self._in_flight(tenant),
            taken=self._taken.get(tenant, 0),
            quota=self._quotas.of(tenant),
            line=iter(line),
        )

    def served(self, tenant: str) -> None:
        """A tenant has got a place."""
        self._turn += 1
        taken = self._taken.pop(tenant, 0) + 1
        if taken < self._quotas.of(tenant).weight:
            self._taken[tenant] = taken
            return
        self._last_turn.pop(tenant, None)
        self._last_turn[tenant] = self._turn
        if len(self._last_turn) > _REMEMBERED:  # the oldest turn and none are the same: before all others
            del self._last_turn[next(iter(self._last_turn))]

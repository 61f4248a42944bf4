"""Whose turn it is: those who wait for a place, tenant by tenant."""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import Generic, Protocol, TypeVar

_REMEMBERED = 1024  # tenants


class HasTenant(Protocol):
    """Whatever belongs to a tenant."""

    @property
    def tenant(self) -> str:
        """The tenant's name; empty for the default one."""
        ...


T = TypeVar("T", bound=HasTenant)


class Turns(Generic[T]):
    """Those who wait. The tenant with the fewest places is next, and of several the one whose last turn is longest ago;
    each tenant's own are in the order in which they came. Somebody's first request therefore gets the next free place,
    however many of another tenant wait; and who comes again and again takes turns with those who wait.

    Choosing takes time in the number of tenants that wait, not of those who wait.
    """

    def __init__(self) -> None:
        self._lines: dict[str, deque[T]] = {}
        self._last_turn: dict[str, int] = {}  # the longest ago first
        self._turn = 0

    def add(self, one: T) -> None:
        """Go to the end of the tenant's line."""
        self._lines.setdefault(one.tenant, deque()).append(one)

    def put_back(self, one: T) -> None:
        """Go to the front of the tenant's line."""
        self._lines.setdefault(one.tenant, deque()).appendleft(one)

    def next(self, placed: Iterable[T]) -> T | None:
        """Return who gets the next free place if ``placed`` have one each; none if nobody waits."""
        if not self._lines:
            return None
        places = Counter(one.tenant for one in placed)
        tenant = min(self._lines, key=lambda name: (places[name], self._last_turn.get(name, 0)))
        return self._lines[tenant][0]

    def take(self, one: T) -> None:
        """It has got a place: it waits no more, and its tenant has had a turn."""
        self._turn += 1
        self._last_turn.pop(one.tenant, None)
        self._last_turn[one.tenant] = self._turn
        if len(self._last_turn) > _REMEMBERED:  # the oldest turn and none are the same: before all others
            del self._last_turn[next(iter(self._last_turn))]
        self.remove(one)

    def remove(self, one: T) -> None:
        """It waits no more. It must have been waiting."""
        line = self._lines[one.tenant]
        line.remove(one)
        if not line:
            del self._lines[one.tenant]

    def clear(self) -> None:
        """Forget everybody."""
        self._lines.clear()
        self._last_turn.clear()

    def __len__(self) -> int:
        return sum(len(line) for line in self._lines.values())

    def __iter__(self) -> Iterator[T]:
        for line in self._lines.values():
            yield from line

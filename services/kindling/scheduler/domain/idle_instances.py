"""The instances without work: which to stop, and which to evict first."""

from collections.abc import Iterator

from kindling.scheduler.domain.ranking import Ranking
from kindling.scheduler.domain.values import NEVER


class IdleInstances:
    """Ready, loaded and neither busy nor migrating, by since when and by when their keep-alive is over."""

    def __init__(self) -> None:
        self._idle_since: dict[str, float] = {}
        self._by_idle_since = Ranking[float]()
        self._by_end = Ranking[float]()

    def put(self, instance_id: str, idle_since: float, ends_at: float = NEVER) -> None:
        """An instance is idle, and kept until ``ends_at``; not at all if nothing points at what it runs."""
        self._idle_since[instance_id] = idle_since
        self._by_idle_since.put(instance_id, idle_since)
        self._by_end.put(instance_id, ends_at)

    def drop(self, instance_id: str) -> None:
        """An instance is not idle, or gone."""
        self._idle_since.pop(instance_id, None)
        self._by_idle_since.drop(instance_id)
        self._by_end.drop(instance_id)

    def over(self, now: float) -> Iterator[str]:
        """Those whose keep-alive is over, the longest first."""
        for ends_at, instance_id in self._by_end:
            if ends_at > now:
                return
            yield instance_id

    def is_over(self, instance_id: str, now: float) -> bool:
        """Whether an instance's keep-alive is over; not that of one that is not idle."""
        ends_at = self._by_end.key(instance_id)
        return ends_at is not None and ends_at <= now

    def ends_after(self, now: float) -> Iterator[tuple[float, str]]:
        """When keep-alives are over that are not yet, the next first."""
        return ((ends_at, name) for ends_at, name in self._by_end if ends_at > now)

    def in_eviction_order(self, now: float) -> Iterator[str]:
        """Those past keep-alive first, then the least recently used."""
        past = sorted(self.over(now), key=lambda name: (self._idle_since[name], name))
        yield from past
        spent = set(past)
        yield from (name for _, name in self._by_idle_since if name not in spent)

    def check_integrity(self, expected: dict[str, float]) -> None:
        """Raise AssertionError if this is not what is idle, and since when."""
        assert self._idle_since == expected
        for ranking in (self._by_idle_since, self._by_end):
            ranking.check_integrity()
            assert {name for _, name in ranking} == expected.keys()

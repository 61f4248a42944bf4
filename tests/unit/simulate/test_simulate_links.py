"""Virtual time, shared links and tiers."""

from functools import partial

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from kindling.simulate.events import Action, Events
from kindling.simulate.lru_tier import LruTier
from kindling.simulate.shared_link import SharedLink


def test_what_is_planned_happens_in_order_and_may_plan_more() -> None:
    events, seen = Events(), list[tuple[str, float]]()
    events.at(2.0, lambda: seen.append(("late", events.now)))
    events.at(1.0, lambda: events.after(0.5, lambda: seen.append(("between", events.now))))
    events.at(1.0, lambda: seen.append(("same moment", events.now)))
    events.run()
    assert seen == [("same moment", 1.0), ("between", 1.5), ("late", 2.0)]


def test_transfers_share_a_link() -> None:
    events, ends = Events(), dict[int, float]()
    long, short = (partial(_note_end, events, ends, number) for number in range(2))
    link = SharedLink(events, bytes_per_second=10.0)
    link.move(100, long)
    events.at(2.0, partial(link.move, 20, short))
    events.run()
    # Alone until 2 (20 bytes), both at half speed until 6 (20 bytes each), the rest alone.
    assert ends == {1: pytest.approx(6.0), 0: pytest.approx(12.0)}


@given(st.lists(st.tuples(st.floats(0, 50), st.integers(1, 1000)), min_size=1, max_size=12))
@settings(derandomize=True, deadline=None)
def test_a_link_moves_every_byte_and_never_more_than_it_can(transfers: list[tuple[float, int]]) -> None:
    events, ends = Events(), dict[int, float]()
    link = SharedLink(events, bytes_per_second=10.0)
    for number, (at, size) in enumerate(transfers):
        end = partial(_note_end, events, ends, number)
        events.at(at, partial(link.move, size, end))
    events.run()
    assert len(ends) == len(transfers)
    assert all(ends[number] >= at + size / 10.0 - 1e-6 for number, (at, size) in enumerate(transfers))
    began, all_bytes = min(at for at, _ in transfers), sum(size for _, size in transfers)
    assert max(ends.values()) >= began + all_bytes / 10.0 - 1e-6


class ImpatientEvents(Events):
    """Fails a test that would never end."""

    planned = 0

    def at(self, seconds: float, action: Action) -> None:
        self.planned += 1
        assert self.planned < 20, "it goes round in circles"
        super().at(seconds, action)


@given(st.floats(2_000, 90_000), st.integers(10**9, 10**11))
@settings(derandomize=True, deadline=None)
def test_a_transfer_ends_also_where_the_clock_is_coarser_than_its_last_bytes(at: float, size_bytes: int) -> None:
    events, ends = ImpatientEvents(), dict[int, float]()
    link = SharedLink(events, bytes_per_second=6e9)
    events.at(at, partial(link.move, size_bytes, partial(_note_end, events, ends, 0)))
    events.run()
    assert ends[0] == pytest.approx(at + size_bytes / 6e9)


def _note_end(events: Events, ends: dict[int, float], number: int) -> None:
    assert number not in ends, "a transfer ends once"
    ends[number] = events.now


def test_the_least_recently_used_gives_way_but_not_what_is_pinned() -> None:
    tier = LruTier(30)
    for name in "abc":
        tier.put(name, 10)
    tier.pin("a")
    tier.put("b", 10)
    assert tier.put("d", 10) == ["c"]
    assert tier.put("e", 25) == [], "a is pinned: dropping the others would not do"
    assert [name in tier for name in "abcde"] == [True, True, False, True, False]
    tier.unpin("a")
    assert tier.put("e", 25) == ["a", "b", "d"]
    assert tier.used_bytes == 25

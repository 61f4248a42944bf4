"""Turns between tenants, whoever comes and goes."""

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from kindling.worker.domain.turns import Turns


@dataclass(frozen=True, slots=True)
class One:
    tenant: str
    number: int


TENANTS = st.sampled_from(["flood", "b", "c"])
# A tenant's name: one of its own comes. A number: the so-manieth of those who run ends.
EVENTS = st.lists(TENANTS | st.integers(0, 5), max_size=60)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(EVENTS, st.integers(1, 4))
def test_turns_are_fair_and_in_order(events: list[str | int], places: int) -> None:
    turns: Turns[One] = Turns()
    running: list[One] = []
    taken: list[One] = []
    for number, event in enumerate(events):
        if isinstance(event, str):
            turns.add(One(event, number))
        elif running:
            running.pop(event % len(running))
        while len(running) < places and (one := turns.next(running)) is not None:
            fewest = min(_places(running, other.tenant) for other in turns)
            assert _places(running, one.tenant) == fewest
            turns.take(one)
            running.append(one)
            taken.append(one)
        assert len(running) == places or not len(turns)
    for tenant in ("flood", "b", "c"):
        own = [one.number for one in taken if one.tenant == tenant]
        assert own == sorted(own)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.integers(1, 50), st.integers(1, 5), st.integers(0, 20))
def test_a_flood_delays_nobody_beyond_the_next_free_place(flood: int, places: int, ended_before: int) -> None:
    turns: Turns[One] = Turns()
    for number in range(flood + places):
        turns.add(One("flood", number))
    running: list[One] = []
    for _ in range(places + min(ended_before, flood)):
        if len(running) == places:
            running.pop(0)
        one = turns.next(running)
        assert one is not None
        turns.take(one)
        running.append(one)
    quiet = One("quiet", 0)
    turns.add(quiet)
    running.pop()
    assert turns.next(running) is quiet


def _places(running: list[One], tenant: str) -> int:
    return sum(one.tenant == tenant for one in running)

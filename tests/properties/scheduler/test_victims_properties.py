"""The set of victims that the dynamic programme finds costs as little as the best of all subsets."""

from itertools import chain, combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from kindling.scheduler.domain.decisions import StopInstance
from kindling.scheduler.domain.victims import MOST, Victim, VictimSet, cheapest

GB = 10**9


def victim(number: int, freed_bytes: int, harm: int = 0, delay: int = 0) -> Victim:
    return Victim(StopInstance(f"i-{number}", "test"), freed_bytes, float(harm), float(delay))


@st.composite
def victims(draw: st.DrawFn) -> list[Victim]:
    """Few different figures, so that many sets come out equal; whole seconds, so that sums are exact."""
    sizes = draw(st.sampled_from([st.integers(1, 4), st.integers(1, 80 * GB)]))
    parts = draw(st.lists(st.tuples(sizes, st.integers(0, 9), st.integers(0, 3)), max_size=8))
    return [victim(number, *part) for number, part in enumerate(parts)]


def brute_force(candidates: list[Victim], missing_bytes: int) -> tuple[float, int] | None:
    """The least cost of all subsets that free enough."""
    subsets = chain.from_iterable(combinations(candidates, size) for size in range(1, len(candidates) + 1))
    enough = (subset for subset in subsets if sum(one.freed_bytes for one in subset) >= missing_bytes)
    return min((cost(subset) for subset in enough), default=None)


def cost(subset: tuple[Victim, ...]) -> tuple[float, int]:
    harm = sum(one.harm_seconds for one in subset)
    return max(one.delay_seconds for one in subset) + harm, len(subset)


@settings(max_examples=400, derandomize=True, deadline=None)
@given(victims(), st.data())
def test_no_subset_costs_less(candidates: list[Victim], data: st.DataObject) -> None:
    together = sum(one.freed_bytes for one in candidates)
    missing_bytes = data.draw(st.integers(1, together + 1))
    found = cheapest(candidates, missing_bytes)
    assert (found.cost if found else None) == brute_force(candidates, missing_bytes)
    if found is not None:
        assert found == _added_up(found), "it says of itself what its victims come to"
        assert found.freed_bytes >= missing_bytes
        assert len({one.departure for one in found.victims}) == len(found.victims)


def _added_up(found: VictimSet) -> VictimSet:
    added = VictimSet()
    for one in found.victims:
        added = added.with_one(one)
    return added


def test_all_of_them_are_found_where_they_just_suffice() -> None:
    third = 80 * GB // 3
    found = cheapest([victim(number, third, harm=9) for number in range(3)], 3 * third)
    assert found is not None
    assert len(found.victims) == 3
    assert cheapest([victim(number, third) for number in range(3)], 3 * third + 1) is None


def test_of_very_many_the_largest_are_looked_at() -> None:
    many = [victim(number, number + 1, harm=number) for number in range(3 * MOST)]
    largest = sum(one.freed_bytes for one in many[-MOST:])
    found = cheapest(many, largest)
    assert found is not None
    assert found.freed_bytes == largest


def test_nobody_leaves_who_is_not_needed() -> None:
    found = cheapest([victim(1, 5), victim(2, 9), victim(3, 1)], 9)
    assert found is not None
    assert [one.departure.instance_id for one in found.victims] == ["i-2"]

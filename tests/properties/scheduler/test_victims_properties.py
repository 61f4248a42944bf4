"""The cheapest set of victims, against every set there is."""

from itertools import chain, combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from kindling.scheduler.domain.decisions import AwaitSlot
from kindling.scheduler.domain.victims import Victim, VictimSet, cheapest_devices, cheapest_set

# Few distinct figures, so that sums often tie, and some that tie with nothing.
_bytes = st.one_of(st.integers(0, 4), st.integers(0, 10**12))
_seconds = st.one_of(st.integers(0, 3).map(float), st.integers(0, 10**6).map(lambda ms: ms / 1000))
_victims = st.lists(st.tuples(_bytes, _seconds, _seconds), max_size=8).map(
    lambda facts: [Victim(AwaitSlot(str(number)), *fact) for number, fact in enumerate(facts)]
)


def every_set(victims: list[Victim]) -> list[tuple[Victim, ...]]:
    """All but the empty one."""
    return list(chain.from_iterable(combinations(victims, count) for count in range(1, len(victims) + 1)))


def least_cost(victims: list[Victim], needed_bytes: float) -> float | None:
    """What the cheapest set costs that frees enough, by looking at all."""
    enough = (one for one in every_set(victims) if sum(victim.freed_bytes for victim in one) >= needed_bytes)
    return min((sum(victim.cost_seconds for victim in one) for one in enough), default=None)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(_victims, st.one_of(st.integers(-2, 12), st.integers(0, 3 * 10**12), st.just(float("-inf"))))
def test_no_set_that_frees_enough_costs_less(victims: list[Victim], needed_bytes: float) -> None:
    chosen, least = cheapest_set(victims, needed_bytes), least_cost(victims, needed_bytes)
    if least is None:
        assert chosen is None
        return
    assert chosen is not None
    assert chosen.victims
    assert len({victim.step.instance_id for victim in chosen.victims}) == len(chosen.victims)
    assert sum(victim.freed_bytes for victim in chosen.victims) == chosen.freed_bytes >= needed_bytes
    assert abs(chosen.cost_seconds - least) < 1e-6


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(_victims.map(lambda some: some[:4]), st.integers(0, 12), st.booleans()), max_size=4),
    st.integers(1, 3),
)
def test_no_other_devices_of_a_node_can_be_cleared_for_less(
    devices: list[tuple[list[Victim], int, bool]], count: int
) -> None:
    sets: dict[str, VictimSet | None] = {}
    costs: list[float | None] = []
    for number, (victims, needed_bytes, has_room) in enumerate(devices):
        sets[f"w{number}"] = VictimSet() if has_room else cheapest_set(victims, needed_bytes)
        costs.append(0.0 if has_room else least_cost(victims, needed_bytes))
    possible = [sum(some) for some in combinations([cost for cost in costs if cost is not None], count)]
    chosen = cheapest_devices(sets, count)
    if not possible:
        assert chosen is None
        return
    assert chosen is not None
    assert len(chosen) == count
    assert abs(sum(one.cost_seconds for one in chosen.values()) - min(possible)) < 1e-6


def test_a_device_that_many_share_is_cleared_of_those_with_the_most_memory_first() -> None:
    victims = [Victim(AwaitSlot(str(number)), 1 + number, 1.0) for number in range(40)]
    chosen = cheapest_set(victims, 100)
    assert chosen is not None
    assert [victim.step.instance_id for victim in chosen.victims] == ["39", "38", "37"]

"""The order in which tenants get places, whoever waits and runs."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from kindling.scheduler.domain.lines import WaitingLines
from kindling.scheduler.domain.values import Request

TENANTS = ("flood", "b", "")
# A tenant's name: one of its own comes. A number: the so-manieth of those who run ends.
EVENTS = st.lists(st.sampled_from(TENANTS) | st.integers(0, 5), max_size=60)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(EVENTS, st.integers(1, 4))
def test_turns_are_fair_and_in_order(events: list[str | int], places: int) -> None:
    running: list[Request] = []
    served: list[Request] = []
    lines = WaitingLines(lambda tenant: sum(one.tenant == tenant for one in running))
    for number, event in enumerate(events):
        if isinstance(event, str):
            lines.join(Request(f"g{number}", "m", float(number), tenant=event))
        elif running:
            running.pop(event % len(running))
        while len(running) < places and (request := lines.next("m")) is not None:
            counts = Counter(one.tenant for one in running)
            assert counts[request.tenant] == min(counts[other.tenant] for other in lines)
            lines.serve(request)
            running.append(request)
            served.append(request)
    for tenant in TENANTS:
        own = [request.arrived_at for request in served if request.tenant == tenant]
        assert own == sorted(own)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(TENANTS), max_size=40), st.dictionaries(st.sampled_from(TENANTS), st.integers(0, 5)))
def test_the_order_is_the_one_in_which_they_are_served(waiting: list[str], in_flight: dict[str, int]) -> None:
    counts = Counter(in_flight)
    lines = WaitingLines(counts.__getitem__)
    for number, tenant in enumerate(waiting):
        lines.join(Request(f"g{number}", "m", float(number), tenant=tenant))
    foretold = list(lines.in_turn("m"))
    served = []
    while (request := lines.next("m")) is not None:
        lines.serve(request)
        counts[request.tenant] += 1
        served.append(request)
    assert served == foretold
    assert sorted(request.arrived_at for request in served) == [float(number) for number in range(len(waiting))]


@settings(derandomize=True, max_examples=50, deadline=None)
@given(st.integers(1, 50), st.integers(1, 50))
def test_a_flood_delays_nobodys_first_beyond_the_next_free_place(flood: int, served_before: int) -> None:
    lines = WaitingLines(lambda _tenant: 0)
    for number in range(flood + served_before):
        lines.join(Request(f"g{number}", "m", float(number), tenant="flood"))
    for _ in range(served_before):
        request = lines.next("m")
        assert request is not None
        lines.serve(request)
    quiet = Request("quiet", "m", 100.0, tenant="quiet")
    lines.join(quiet)
    assert lines.next("m") is quiet

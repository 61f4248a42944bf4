"""Places go to tenants by turns."""

from dataclasses import replace

import pytest

from kindling.platform.errors import ResourceExhaustedError
from kindling.scheduler.domain.grants import GrantLedger
from kindling.scheduler.domain.planner import Planner
from support import scheduler_views as views


def planner_with(**settings: float) -> Planner:
    planner = views.planner()
    views.add_node(planner.view, views.node("n"), workers=1)
    planner.view.models["m"] = views.model(**settings)
    return planner


def ask(planner: Planner, *names: str) -> None:
    """Have generations wait; each is named after its tenant and a number."""
    for name in names:
        request = replace(views.request(name), tenant=name[:-1])
        assert planner.try_grant(request, 0.0) is None
        planner.hold(request, 0.0)


def start(planner: Planner) -> None:
    (started,) = planner.plan(0.0).starts
    views.ready(planner, started.instance.instance_id, 1.0)


def granted(planner: Planner, now: float = 1.0) -> list[str]:
    return [grant.request.generation_id for grant in planner.plan(now).grants]


def test_everybodys_first_comes_before_anybodys_second() -> None:
    planner = planner_with(concurrency_target=5, max_instances=1)
    ask(planner, "flood1", "flood2", "flood3", "flood4", "quiet1", "quiet2", "third1")
    start(planner)
    assert granted(planner) == ["flood1", "quiet1", "third1", "flood2", "quiet2"]
    planner.view.check_integrity()


def test_a_place_that_is_freed_goes_to_whom_has_the_fewest() -> None:
    planner = planner_with(concurrency_target=2, max_instances=1)
    ask(planner, "flood1", "flood2", "flood3")
    start(planner)
    assert granted(planner) == ["flood1", "flood2"]
    ask(planner, "quiet1", "quiet2")
    planner.release("flood1", 2.0)
    assert granted(planner, 2.0) == ["quiet1"]
    planner.release("flood2", 3.0)
    assert granted(planner, 3.0) == ["flood3"]


def test_who_comes_again_and_again_takes_turns_with_those_who_wait() -> None:
    planner = planner_with(concurrency_target=1, max_instances=1)
    ask(planner, "a1", "a2")
    start(planner)
    served = granted(planner)
    for number in range(2, 6):
        ask(planner, f"b{number}")
        planner.release(served[-1], float(number))
        served += granted(planner, float(number))
    assert served == ["a1", "b2", "a2", "b3", "b4"]


def test_a_tenant_that_gives_up_is_passed_over() -> None:
    planner = planner_with(concurrency_target=2, max_instances=1)
    ask(planner, "flood1", "flood2", "quiet1")
    planner.lines.leave(planner.lines.line("m")[-1])
    start(planner)
    assert granted(planner) == ["flood1", "flood2"]
    assert not list(planner.lines)


def test_a_flood_fills_the_queue_for_itself_alone() -> None:
    planner = planner_with(concurrency_target=1, max_instances=1, max_queued_requests=4)
    ask(planner, "flood1", "flood2", "flood3", "flood4")
    with pytest.raises(ResourceExhaustedError):
        ask(planner, "flood5")
    ask(planner, "quiet1", "quiet2")
    with pytest.raises(ResourceExhaustedError):
        ask(planner, "quiet3")
    with pytest.raises(ResourceExhaustedError):
        ask(planner, "flood6")


def test_a_request_that_comes_again_as_anothers_waits_once() -> None:
    planner = planner_with()
    ask(planner, "a1")
    planner.hold(replace(views.request("a1"), tenant="b"), 0.0)
    assert [request.tenant for request in planner.lines.in_turn("m")] == ["b"]


def test_grants_are_counted_by_tenant_until_they_end() -> None:
    grants = GrantLedger(ttl_seconds=10.0)
    for instance in ("i", "j"):
        grants.open(instance, 0.0)
    for name in ("moved", "released", "left", "over", "closed"):
        grants.grant(name, "i", 0.0, "acme")
    grants.grant("other", "i", 0.0)
    assert (grants.in_flight_of("acme"), grants.in_flight_of(""), grants.in_flight_of("none")) == (5, 1, 0)
    grants.report("i", frozenset({"moved", "released", "left", "over", "closed"}), 1.0)
    grants.move("moved", "i", "j", 1.0)
    assert grants.in_flight_of("acme") == 5
    grants.release("released", 2.0)
    grants.leave("left", 2.0)
    grants.report("i", frozenset({"closed"}), 2.0)
    assert grants.in_flight_of("acme") == 2
    grants.close("i")
    assert (grants.in_flight_of("acme"), grants.in_flight_of("")) == (1, 0)

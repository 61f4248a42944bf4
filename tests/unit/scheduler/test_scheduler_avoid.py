"""Requests that want to run elsewhere than where they broke off."""

import pytest

from kindling.platform.errors import ResourceExhaustedError, UnavailableError
from kindling.scheduler.domain.planner import Planner
from kindling.scheduler.domain.values import LoadReport
from support import scheduler_views as views


def planner_with(workers: int = 2, **settings: float) -> Planner:
    """One instance m-1 with the generations g1 and other."""
    planner = views.planner()
    views.add_node(planner.view, views.node("n"), workers=workers)
    planner.view.models["m"] = views.model(**settings)
    views.put(planner.view, "m-1", planner.view.models["m"], "n/w0")
    for name in ("g1", "other"):
        assert planner.try_grant(views.request(name), 0.0) is not None
    return planner


def ask(planner: Planner, name: str, now: float, *avoid: str) -> None:
    request = views.request(name, "m", now, *avoid)
    assert planner.try_grant(request, now) is None
    planner.hold(request, now)


def grants(planner: Planner, now: float) -> list[tuple[str, str]]:
    return [(one.request.generation_id, one.instance.instance_id) for one in planner.plan(now).grants]


def test_the_grant_there_is_given_back_and_another_instance_is_taken_at_once() -> None:
    planner = planner_with()
    views.put(planner.view, "m-2", planner.view.models["m"], "n/w1")
    granted = planner.try_grant(views.request("g1", "m", 1.0, "m-1"), 1.0)
    assert granted is not None
    assert granted.instance.instance_id == "m-2"
    assert [planner.view.grants.in_flight(name) for name in ("m-1", "m-2")] == [1, 1]


def test_one_is_started_elsewhere_although_the_avoided_one_has_room() -> None:
    planner = planner_with()
    ask(planner, "g1", 1.0, "m-1")
    (start,) = planner.plan(1.0).starts
    assert start.instance.worker_id == "n/w1"
    assert start.request is not None
    assert grants(planner, 4.0) == [], "it is waited for, however long it takes"
    planner.outcomes.started(start.instance.instance_id, LoadReport(complete=True), 5.0)
    assert grants(planner, 5.0) == [("g1", start.instance.instance_id)]


def test_those_behind_who_avoid_nothing_do_not_wait() -> None:
    planner = planner_with()
    ask(planner, "g1", 1.0, "m-1")
    ask(planner, "g2", 1.0)
    assert grants(planner, 1.0) == [("g2", "m-1")]


def test_without_a_place_elsewhere_it_gets_the_avoided_one_after_a_moment() -> None:
    planner = planner_with(workers=1)
    ask(planner, "g1", 1.0, "m-1")
    assert grants(planner, 1.0) == []
    assert planner.next_deadline(1.0) == 3.0
    assert grants(planner, 2.9) == []
    assert grants(planner, 3.0) == [("g1", "m-1")]


def test_its_own_worker_is_not_a_place_elsewhere() -> None:
    planner = views.planner()
    views.add_node(planner.view, views.node("n"), workers=1, slots=2)
    views.put(planner.view, "m-1", views.model(), "n/w0")
    ask(planner, "g1", 1.0, "m-1")
    plan = planner.plan(1.0)
    assert (plan.starts, plan.stops) == ([], []), "neither beside it nor in its stead"


def test_a_maximum_is_kept() -> None:
    planner = planner_with(max_instances=1)
    ask(planner, "g1", 1.0, "m-1")
    assert planner.plan(1.0).starts == []
    assert grants(planner, 3.0) == [("g1", "m-1")]


def test_if_the_start_elsewhere_fails_it_gets_the_avoided_one() -> None:
    planner = planner_with()
    ask(planner, "g1", 1.0, "m-1")
    (start,) = planner.plan(1.0).starts
    planner.start_failed(start.instance.instance_id, UnavailableError("broken", reason="X"), 9.0)
    assert grants(planner, 9.0) == [("g1", "m-1")]


def test_a_full_avoided_instance_does_not_have_two_started() -> None:
    planner = planner_with(workers=4, concurrency_target=2)
    ask(planner, "g1", 1.0, "m-1")
    assert len(planner.plan(1.0).starts) == 1
    assert planner.plan(2.0).starts == []


def test_one_that_is_gone_is_avoided_without_effect() -> None:
    planner = planner_with()
    granted = planner.try_grant(views.request("g9", "m", 1.0, "m-gone"), 1.0)
    assert granted is not None
    assert granted.instance.instance_id == "m-1"


def test_what_a_silent_worker_runs_still_counts_there() -> None:
    planner = planner_with()
    views.put(planner.view, "m-2", planner.view.models["m"], "n/w1")
    views.report(planner.view, "n/w0", "g1", "other")
    assert planner.try_grant(views.request("g1", "m", 1.0, "m-1"), 1.0) is not None
    assert [planner.view.grants.in_flight(name) for name in ("m-1", "m-2")] == [2, 1]
    planner.release("g1", 2.0)
    views.report(planner.view, "n/w0", "other", now=3.0)
    assert [planner.view.grants.in_flight(name) for name in ("m-1", "m-2")] == [1, 0]


def test_a_full_line_is_no_reason_to_end_what_had_a_place() -> None:
    planner = planner_with(workers=1, concurrency_target=2, max_queued_requests=1)
    planner.hold(views.request("new"), 1.0)
    with pytest.raises(ResourceExhaustedError):
        planner.hold(views.request("newer"), 1.0)
    assert planner.hold(views.request("g1", "m", 1.0, "m-1"), 1.0) == 1


def test_an_instance_that_nobody_reaches_does_not_count_against_the_maximum() -> None:
    planner = planner_with(max_instances=1)
    ask(planner, "g1", 1.0, "m-1")
    assert planner.plan(1.0).starts == [], "its worker answers us"
    planner.view.disconnect("n/w0", 1.0)
    (start,) = planner.plan(1.0).starts
    assert start.instance.worker_id == "n/w1"

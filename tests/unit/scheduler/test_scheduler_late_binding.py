"""Who waits for a place in an instance that runs, and who goes to one that still loads."""

from dataclasses import replace

import pytest

from kindling.scheduler.domain.late_binding import better_until
from kindling.scheduler.domain.planner import Planner
from kindling.scheduler.domain.policy import instance_with_room
from kindling.scheduler.domain.quotas import Quota, TenantQuota
from kindling.scheduler.domain.values import Instance, InstanceState, LoadReport
from kindling.scheduler.domain.view import ClusterView
from support import scheduler_views as views

NOW = 100.0
LOADED_AT = 110.0
MODEL = views.model(concurrency_target=2)
ASKED = views.request("g", now=NOW)


@pytest.fixture
def planner() -> Planner:
    """A loaded instance that is full, with places free after 4 and 8 seconds in the mean, and one loaded in 10."""
    planner = views.planner(grant_ttl_seconds=60.0)
    view = planner.view
    for name in ("n0", "n1", "n2"):
        views.add_node(view, views.node(name, ssd=1e9))
    views.put(view, "full", MODEL, "n0/w0", now=NOW)
    load(view, "loads", "n1/w0", LOADED_AT)
    for name in ("a", "b"):
        view.grants.grant(name, "full", NOW - 2)
    for _ in range(8):
        view.experience.hear_generation(MODEL.checkpoint.digest, 10.0)  # 8 seconds are left to each
    return planner


def load(view: ClusterView, name: str, worker_id: str, loaded_at: float) -> None:
    """An instance that takes generations, and has its weights at a time."""
    views.put(view, name, MODEL, worker_id, InstanceState.STARTING, now=NOW)
    report = LoadReport(init_seconds=0.5, total_seconds=0.5)
    started = replace(view.instances[name], state=InstanceState.READY, started_at=NOW, report=report)
    view.put_instance(replace(started, estimated_seconds=loaded_at - NOW), NOW)
    views.report(view, worker_id)


def until(view: ClusterView, waiting: int = 1, now: float = NOW) -> float | None:
    return better_until(view, ASKED, view.instances["loads"], waiting, now)


def test_it_stays_in_line_as_long_as_a_place_is_expected_before_the_load_ends(planner: Planner) -> None:
    assert until(planner.view) == LOADED_AT - 4.0
    assert until(planner.view, waiting=2) == LOADED_AT - 8.0
    assert until(planner.view, waiting=3) is None, "the third would have one after 12 seconds"


def test_it_goes_there_once_the_load_ends_sooner_than_a_place_is_free(planner: Planner) -> None:
    view = planner.view
    assert until(view, now=NOW + 6) == LOADED_AT - 1.0, "2 seconds are left to each"
    load(view, "loads", "n1/w0", NOW + 6.5)
    assert until(view, now=NOW + 6) is None
    assert until(view, now=NOW + 7) is None, "the load is overdue"


def test_it_goes_there_if_nothing_is_known_of_how_long_others_run(planner: Planner) -> None:
    planner.view.grants.grant("c", "full", NOW - 30.0)
    for name in ("a", "b"):
        planner.view.grants.release(name, NOW)
    assert until(planner.view) is None, "no generation has lasted as long as the one that runs"


def test_it_goes_there_if_others_cannot_be_reached(planner: Planner) -> None:
    planner.view.disconnect("n0/w0", NOW)
    assert until(planner.view) is None


def test_nobody_is_turned_away_for_want_of_a_place_in_line(planner: Planner) -> None:
    view = planner.view
    view.models["m"] = replace(MODEL, settings=replace(MODEL.settings, max_queued_requests=2))
    assert until(view) is not None
    assert until(view, waiting=2) is None
    view.quotas.put(TenantQuota("", Quota(waiting=5)))
    assert until(view) is None


def test_the_planner_looks_again_when_it_said_and_serves_whichever_comes_first(planner: Planner) -> None:
    assert planner.try_grant(ASKED, NOW) is None
    planner.hold(ASKED, NOW)
    assert not planner.plan(NOW).grants
    assert planner.next_deadline(NOW) == LOADED_AT - 4.0
    planner.release("a", NOW + 1)
    assert [grant.instance.instance_id for grant in planner.plan(NOW + 1).grants] == ["full"]


def test_the_planner_binds_it_to_the_load_in_the_end(planner: Planner) -> None:
    planner.hold(ASKED, NOW)
    assert not planner.plan(LOADED_AT - 4.0).grants
    at = planner.next_deadline(LOADED_AT - 4.0)
    assert at == LOADED_AT - 1.0, "what runs is expected to end soon"
    assert [grant.instance.instance_id for grant in planner.plan(at).grants] == ["loads"], "it has lasted too long"


def test_a_request_goes_at_once_to_the_only_instance_although_it_loads(planner: Planner) -> None:
    planner.view.remove_instance("full")
    grant = planner.try_grant(ASKED, NOW)
    assert grant is not None
    assert grant.instance.instance_id == "loads"


def chosen(view: ClusterView) -> Instance | None:
    return instance_with_room(view, MODEL)


def test_what_is_loaded_comes_first_and_then_what_will_be_first(planner: Planner) -> None:
    view = planner.view
    load(view, "earlier", "n2/w0", LOADED_AT - 5.0)
    view.grants.grant("c", "earlier", NOW)
    assert chosen(view) == view.instances["earlier"], "although the other one is empty"
    view.grants.release("a", NOW)
    assert chosen(view) == view.instances["full"]

"""Where no slot is free, what several instances of a model generate goes on in fewer of them."""

from dataclasses import replace

import pytest

from kindling.scheduler.domain.decisions import (
    AwaitSlot,
    ClearDevices,
    Decision,
    JoinInstance,
    Need,
    StartInstance,
    StopInstance,
    Wait,
    WaitReason,
)
from kindling.scheduler.domain.policy import Policy
from kindling.scheduler.domain.values import InstanceState, Migration, Model
from kindling.scheduler.domain.view import ClusterView
from support import scheduler_views as views
from support.scheduler_views import GB

NOW = 100.0
WANTED = views.model("wanted", total_bytes=10 * GB)
OTHER = views.model("other", total_bytes=GB, concurrency_target=4)


@pytest.fixture
def view() -> ClusterView:
    """Three nodes with a slot each, all of them busy: with 1, 3 and 4 of 4 generations that "other" may run at once."""
    view = ClusterView()
    view.models["wanted"] = WANTED
    for number, generations in enumerate((1, 3, 4)):
        views.add_node(view, views.node(f"n{number}", ssd=1e9, remote=1e8))
        run(view, f"n{number}/w0", generations)
    return view


def run(view: ClusterView, worker_id: str, generations: int, of: Model = OTHER) -> str:
    name = f"{of.name}-{worker_id}"
    views.put(view, name, of, worker_id, now=NOW - 10)
    for number in range(generations):
        view.grants.grant(f"{name}-{number}", name, NOW - 1)
    return name


def decide(view: ClusterView, queued: int = 1, policy: Policy = Policy()) -> Decision:  # noqa: B008
    view.check_integrity()
    return policy.decide(view, Need(WANTED, queued=queued, since=NOW), NOW)


def joined(decision: Decision) -> tuple[str, str]:
    assert isinstance(decision, JoinInstance)
    return decision.instance_id, decision.target_id


def test_the_one_with_the_fewest_generations_joins_the_fullest_that_has_room(view: ClusterView) -> None:
    assert joined(decide(view)) == ("other-n0/w0", "other-n1/w0")
    views.add_node(view, views.node("n3", ssd=1e9, remote=1e8))
    run(view, "n3/w0", 2)
    assert joined(decide(view)) == ("other-n0/w0", "other-n1/w0")


def test_nobody_joins_where_there_is_no_room_for_all_of_its_generations(view: ClusterView) -> None:
    view.grants.grant("one-more", "other-n0/w0", NOW)
    assert decide(view) == Wait(WaitReason.NO_SLOT)


def test_two_of_four_each_can_be_one(view: ClusterView) -> None:
    view.grants.grant("one-more", "other-n0/w0", NOW)
    view.grants.release("other-n1/w0-0", NOW)
    assert joined(decide(view)) == ("other-n0/w0", "other-n1/w0")


def test_nobody_joins_while_a_slot_is_free(view: ClusterView) -> None:
    views.add_node(view, views.node("n3", ssd=1e9, remote=1e8))
    assert isinstance(decide(view), StartInstance)


def test_nobody_joins_where_who_is_idle_costs_less(view: ClusterView) -> None:
    views.add_node(view, views.node("n3", ssd=1e9, remote=1e8))
    idle = views.put(view, "idle-1", views.model("idle", total_bytes=GB), "n3/w0", now=NOW - 1_000)
    assert decide(view) == StopInstance(idle.instance_id, "the slot is needed by another model")


def test_nobody_joins_for_instances_that_are_only_kept_ready(view: ClusterView) -> None:
    view.models["wanted"] = kept = views.model("wanted", total_bytes=10 * GB, min_instances=1)
    assert Policy().decide(view, Need(kept), NOW) == Wait(WaitReason.NO_SLOT)


def test_nobody_joins_where_that_is_switched_off(view: ClusterView) -> None:
    assert decide(view, policy=Policy(consolidates=False)) == Wait(WaitReason.NO_SLOT)


def test_a_model_keeps_its_minimum(view: ClusterView) -> None:
    view.models["other"] = views.model("other", total_bytes=GB, concurrency_target=4, min_instances=3)
    assert decide(view) == Wait(WaitReason.NO_SLOT)
    view.models["other"] = views.model("other", total_bytes=GB, concurrency_target=4, min_instances=2)
    assert joined(decide(view)) == ("other-n0/w0", "other-n1/w0")


def test_a_slot_that_becomes_free_so_is_counted_on_and_nobody_else_joins(view: ClusterView) -> None:
    view.put_migration(Migration("other-n0/w0", "other-n1/w0"))
    assert decide(view) == AwaitSlot("other-n0/w0")
    view.claimed.add("other-n0/w0")
    assert decide(view) == Wait(WaitReason.NO_SLOT)


@pytest.mark.parametrize("state", [InstanceState.STARTING, InstanceState.STOPPING])
def test_nobody_joins_one_that_does_not_serve(view: ClusterView, state: InstanceState) -> None:
    for generation in range(3):
        view.grants.release(f"other-n1/w0-{generation}", NOW)
    views.put(view, "other-n1/w0", OTHER, "n1/w0", state)
    assert not isinstance(decide(view), JoinInstance)


def test_nobody_joins_in_its_own_worker() -> None:
    view = ClusterView()
    view.models["wanted"] = WANTED
    views.add_node(view, views.node("n", ssd=1e9, remote=1e8), slots=2)
    for name in ("other-1", "other-2"):
        views.put(view, name, OTHER, "n/w0", now=NOW - 10)
        view.grants.grant(name, name, NOW - 1)
    assert decide(view) == Wait(WaitReason.NO_SLOT)


def test_the_planner_moves_its_generations_and_then_counts_on_the_slot() -> None:
    planner = views.planner()
    view = planner.view
    view.models["wanted"] = WANTED
    for number, generations in enumerate((1, 3)):
        views.add_node(view, views.node(f"n{number}", ssd=1e9, remote=1e8))
        run(view, f"n{number}/w0", generations)
    planner.hold(views.request("g", "wanted", NOW), NOW)
    plan = planner.plan(NOW)
    assert [move.migration for move in plan.moves] == [Migration("other-n0/w0", "other-n1/w0")]
    assert [(move.start, move.reason) for move in plan.moves] == [(None, "wanted is ready sooner in its place")]
    assert not plan.stops
    assert not plan.starts
    assert not planner.plan(NOW).moves, "the slot that becomes free is counted on"


def test_two_who_wait_do_not_send_two_to_the_same_place() -> None:
    planner = views.planner()
    view = planner.view
    view.models |= {"wanted": WANTED, "too": views.model("too")}
    for number in range(3):
        views.add_node(view, views.node(f"n{number}", ssd=1e9, remote=1e8))
        run(view, f"n{number}/w0", 2)
    planner.hold(views.request("g1", "wanted", NOW), NOW)
    planner.hold(views.request("g2", "too", NOW), NOW)
    assert [move.migration for move in planner.plan(NOW).moves] == [Migration("other-n0/w0", "other-n2/w0")]


# Devices that several share


def test_on_a_shared_device_some_join_others_and_some_stop() -> None:
    view = ClusterView()
    view.models["wanted"] = WANTED
    for name in ("shared", "away"):
        (worker,) = views.add_node(view, views.node(name, ssd=1e9, remote=1e8), slots=2)
        view.workers[worker.worker_id] = replace(worker, memory_bytes=10 * GB)
    busy = views.model("busy", total_bytes=5 * GB, concurrency_target=4)
    run(view, "shared/w0", 1, busy)
    run(view, "away/w0", 3, busy)
    views.put(view, "idle-1", views.model("idle", total_bytes=5 * GB), "shared/w0", now=NOW - 1_000)
    views.put(view, "full-1", views.model("full", total_bytes=5 * GB, concurrency_target=1), "away/w0")
    view.grants.grant("full", "full-1", NOW)
    decision = decide(view)
    assert isinstance(decision, ClearDevices)
    assert decision.worker_ids == ("shared/w0",)
    assert {type(step): step.instance_id for step in decision.steps} == {
        JoinInstance: "busy-shared/w0",
        StopInstance: "idle-1",
    }

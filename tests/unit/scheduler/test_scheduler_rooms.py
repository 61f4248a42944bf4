"""How a model gets a slot that is not free: somebody stops, moves, or is waited for."""

import pytest

from kindling.scheduler.domain.decisions import (
    AwaitSlot,
    Decision,
    MoveInstance,
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

WANTED = views.model("wanted", total_bytes=10 * GB)
OTHER = views.model("other", total_bytes=GB)


@pytest.fixture
def view() -> ClusterView:
    """Two nodes with a slot each: "near" has what is wanted in DRAM, "far" would fetch it for 100 seconds."""
    view = ClusterView()
    for name in ("near", "far"):
        views.add_node(view, views.node(name, ssd=1e9, remote=1e8))
    views.hold(view, "near", WANTED, dram=10 * GB, ssd=10 * GB)
    for name in ("near", "far"):
        views.hold(view, name, OTHER, dram=GB, ssd=GB)
    view.models["wanted"] = WANTED
    return view


def decide(view: ClusterView, now: float = 100.0, since: float = 100.0, model: Model = WANTED) -> Decision:
    view.check_integrity()
    return Policy().decide(view, Need(model, queued=1, since=since), now)


def run_busy(view: ClusterView, worker_id: str, name: str = "other-1", began: float = 99.0) -> None:
    views.put(view, name, OTHER, worker_id)
    view.grants.grant(f"g-{name}", name, began)


def have_lasted(view: ClusterView, seconds: float) -> None:
    """Generations of the other model have taken so long."""
    for _ in range(8):
        view.experience.hear_generation(OTHER.checkpoint.digest, seconds)


# Somebody stops


def test_an_idle_instance_leaves_where_the_model_is_ready_sooner_than_in_a_free_slot(view: ClusterView) -> None:
    views.put(view, "other-1", OTHER, "near/w0")
    assert decide(view) == StopInstance("other-1", "the slot is needed by another model")


def test_it_stays_where_that_saves_less_than_its_own_next_start_costs(view: ClusterView) -> None:
    views.hold(view, "far", WANTED, dram=10 * GB, ssd=10 * GB)
    views.put(view, "other-1", OTHER, "near/w0")
    decision = decide(view)
    assert isinstance(decision, StartInstance)
    assert decision.placement.worker_id == "far/w0"


def test_of_two_idle_ones_that_leaves_which_starts_again_sooner(view: ClusterView) -> None:
    slow = views.model("slow", total_bytes=5 * GB)
    views.hold(view, "far", WANTED, dram=10 * GB, ssd=10 * GB)
    views.put(view, "slow-1", slow, "near/w0", now=90.0)
    views.put(view, "other-1", OTHER, "far/w0", now=95.0)
    assert decide(view) == StopInstance("other-1", "the slot is needed by another model")


def test_one_that_has_just_started_stays_where_that_costs_more_than_it_saves(view: ClusterView) -> None:
    """What keeps two models from evicting each other in turn."""
    views.hold(view, "far", WANTED, ssd=10 * GB)
    slow = views.model("slow", total_bytes=2 * GB)  # 20 seconds from the remote store
    view.remove_residency("near", OTHER.checkpoint.digest)
    views.put(view, "slow-1", slow, "near/w0", now=99.0)
    assert isinstance(decide(view), StartInstance)
    assert decide(view, now=200.0) == StopInstance("slow-1", "the slot is needed by another model")


def test_a_slot_that_becomes_free_is_counted_on_once(view: ClusterView) -> None:
    views.put(view, "other-1", OTHER, "near/w0", InstanceState.STOPPING)
    assert decide(view) == AwaitSlot("other-1")
    view.claimed.add("other-1")
    assert isinstance(decide(view), StartInstance), "somebody else counts on it"


def test_one_that_stops_after_its_generations_is_not_counted_on(view: ClusterView) -> None:
    run_busy(view, "near/w0")
    views.put(view, "other-1", OTHER, "near/w0", InstanceState.STOPPING)
    assert isinstance(decide(view), StartInstance)


# Somebody moves


def test_a_busy_instance_moves_to_the_free_slot_where_it_is_ready_soonest(view: ClusterView) -> None:
    run_busy(view, "near/w0")
    decision = decide(view)
    assert isinstance(decision, MoveInstance)
    assert (decision.instance_id, decision.target.worker_id) == ("other-1", "far/w0")
    assert decision.reason == "wanted is ready sooner in its place"


def test_it_stays_where_moving_takes_longer_than_starting_elsewhere(view: ClusterView) -> None:
    views.hold(view, "far", WANTED, ssd=10 * GB)
    view.remove_residency("far", OTHER.checkpoint.digest)
    run_busy(view, "near/w0")
    assert isinstance(decide(view), StartInstance)


def test_an_idle_one_makes_room_for_a_busy_one_that_makes_room(view: ClusterView) -> None:
    run_busy(view, "near/w0")
    views.put(view, "third-1", views.model("third", total_bytes=GB), "far/w0")
    assert decide(view) == StopInstance("third-1", "the slot is needed by another model")
    view.remove_instance("third-1")
    views.report(view, "far/w0")
    assert isinstance(decide(view), MoveInstance)


def test_the_slot_of_one_that_moves_already_is_counted_on(view: ClusterView) -> None:
    run_busy(view, "near/w0")
    target = views.put(view, "other-2", OTHER, "far/w0", InstanceState.STARTING)
    view.put_migration(Migration("other-1", target.instance_id))
    assert decide(view) == AwaitSlot("other-1")


def test_one_whose_move_has_failed_is_left_alone_for_a_while(view: ClusterView) -> None:
    run_busy(view, "near/w0")
    view.setbacks.note("other-1", "near/w0", views.trouble(), 0.0)
    view.setbacks.give_up("other-1", 100.0)
    assert isinstance(decide(view), StartInstance)
    assert isinstance(decide(view, 102.0), MoveInstance)


def test_nobody_moves_for_instances_that_are_only_kept_ready(view: ClusterView) -> None:
    run_busy(view, "near/w0")
    kept = views.model("wanted", total_bytes=10 * GB, min_instances=1)
    view.models["wanted"] = kept
    assert isinstance(Policy().decide(view, Need(kept), 100.0), StartInstance)


# Somebody is waited for


def test_a_busy_instance_that_ends_soon_is_waited_for(view: ClusterView) -> None:
    views.hold(view, "far", WANTED, ssd=10 * GB)
    view.remove_residency("far", OTHER.checkpoint.digest)  # moving takes longer than the load of what is wanted
    run_busy(view, "near/w0", began=97.0)
    have_lasted(view, 4.0)
    assert decide(view) == Wait(WaitReason.SOONER_HERE, 101.0)
    assert isinstance(decide(view, since=90.0), StartInstance), "it has waited for as long as the start takes"


def test_one_that_has_run_for_longer_than_others_is_not_waited_for(view: ClusterView) -> None:
    views.hold(view, "far", WANTED, ssd=10 * GB)
    view.remove_residency("far", OTHER.checkpoint.digest)
    run_busy(view, "near/w0", began=50.0)
    have_lasted(view, 4.0)
    assert isinstance(decide(view), StartInstance)

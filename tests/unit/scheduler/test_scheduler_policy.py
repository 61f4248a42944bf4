"""What the policy decides, case by case."""

import pytest

from kindling.scheduler.domain.decisions import (
    AwaitSlot,
    Need,
    StartInstance,
    StopInstance,
    Wait,
    WaitReason,
)
from kindling.scheduler.domain.policy import Policy, instance_with_room
from kindling.scheduler.domain.values import InstanceState, Model, ParkedCheckpoint, WorkerReport
from kindling.scheduler.domain.view import ClusterView
from support import scheduler_views as views
from support.scheduler_views import GB

POLICY = Policy()


def decide(view: ClusterView, model: Model, queued: int = 1, excluded: frozenset[str] = frozenset(), now: float = 10.0):
    view.models[model.name] = model
    return POLICY.decide(view, Need(model, queued, excluded), now)


@pytest.fixture
def view() -> ClusterView:
    return ClusterView()


def test_the_emptiest_instance_is_used_while_slots_are_free_and_the_fullest_once_they_are_not(
    view: ClusterView,
) -> None:
    model = views.model(concurrency_target=2)
    views.add_node(view, views.node("n"), workers=4)
    for number in (1, 2, 3):
        views.put(view, f"m-{number}", model, f"n/w{number - 1}")
    for generation, instance in (("g1", "m-1"), ("g2", "m-2"), ("g3", "m-2")):
        view.grants.grant(generation, instance, 1.0)
    assert instance_with_room(view, model).instance_id == "m-3"
    assert instance_with_room(view, model, frozenset({"m-3"})).instance_id == "m-1"
    views.put(view, "x-1", views.model("x"), "n/w3")
    assert instance_with_room(view, model).instance_id == "m-1", "the fullest that has room"


def test_a_full_instance_leads_to_a_start(view: ClusterView) -> None:
    model = views.model(concurrency_target=1)
    views.add_node(view, views.node("n"), workers=2)
    views.put(view, "m-1", model, "n/w0")
    view.grants.grant("g1", "m-1", 1.0)
    decision = decide(view, model)
    assert isinstance(decision, StartInstance)
    assert decision.placement.worker_id == "n/w1"


def test_the_node_that_holds_the_checkpoint_wins(view: ClusterView) -> None:
    model = views.model(total_bytes=GB)
    views.add_node(view, views.node("a"))
    views.add_node(view, views.node("b"))
    views.hold(view, "b", model, ssd=GB)
    decision = decide(view, model)
    assert isinstance(decision, StartInstance)
    assert decision.placement.worker_id == "b/w0"
    assert [other.worker_id for other in decision.alternatives] == ["a/w0"]
    assert decision.placement.seconds < decision.alternatives[0].seconds


def test_one_start_serves_all_who_wait(view: ClusterView) -> None:
    model = views.model(concurrency_target=8)
    views.add_node(view, views.node("n"), workers=3)
    views.put(view, "m-1", model, "n/w0", InstanceState.STARTING)
    assert decide(view, model, queued=8) == Wait(WaitReason.ENOUGH)
    assert isinstance(decide(view, model, queued=9), StartInstance)


def test_the_maximum_is_kept(view: ClusterView) -> None:
    model = views.model(concurrency_target=1, max_instances=1)
    views.add_node(view, views.node("n"), workers=2)
    views.put(view, "m-1", model, "n/w0")
    view.grants.grant("g1", "m-1", 1.0)
    assert decide(view, model, queued=5) == Wait(WaitReason.ENOUGH)


def test_an_instance_that_cannot_be_reached_still_counts_against_the_maximum(view: ClusterView) -> None:
    model = views.model(max_instances=1)
    views.add_node(view, views.node("n"), workers=2)
    views.put(view, "m-1", model, "n/w0")
    view.disconnect("n/w0", 5.0)
    assert decide(view, model) == Wait(WaitReason.AT_MAXIMUM)


def test_the_least_recently_used_idle_instance_makes_room(view: ClusterView) -> None:
    views.add_node(view, views.node("n"), workers=2)
    views.put(view, "a-1", views.model("a"), "n/w0", now=5.0)
    views.put(view, "b-1", views.model("b"), "n/w1", now=3.0)
    assert decide(view, views.model()) == StopInstance("b-1", "the slot is needed by another model")


def test_the_idle_instance_makes_room_in_whose_place_the_model_is_ready_soonest(view: ClusterView) -> None:
    model = views.model()
    views.add_node(view, views.node("far", ssd=1e9, remote=1e8))
    views.add_node(view, views.node("near", ssd=1e9, remote=1e8))
    views.hold(view, "near", model, ssd=views.GB)
    views.put(view, "a-1", views.model("a"), "far/w0", now=3.0)
    views.put(view, "b-1", views.model("b"), "near/w0", now=5.0)
    assert decide(view, model) == StopInstance("b-1", "the slot is needed by another model")


def test_one_past_its_keep_alive_makes_room_first(view: ClusterView) -> None:
    views.add_node(view, views.node("n"), workers=2)
    views.put(view, "a-1", views.model("a", keep_alive_seconds=1.0), "n/w0", now=5.0)
    views.put(view, "b-1", views.model("b"), "n/w1", now=3.0)
    assert decide(view, views.model()) == StopInstance("a-1", "the slot is needed by another model")


def test_busy_and_protected_instances_stay(view: ClusterView) -> None:
    views.add_node(view, views.node("n"), workers=2)
    views.put(view, "a-1", views.model("a", min_instances=1), "n/w0")
    views.put(view, "b-1", views.model("b"), "n/w1")
    view.grants.grant("g1", "b-1", 1.0)
    assert decide(view, views.model()) == Wait(WaitReason.NO_SLOT)


def test_a_slot_that_becomes_free_is_waited_for(view: ClusterView) -> None:
    views.add_node(view, views.node("n"), workers=2)
    views.put(view, "a-1", views.model("a"), "n/w0", InstanceState.STOPPING)
    views.put(view, "b-1", views.model("b"), "n/w1")
    assert decide(view, views.model()) == AwaitSlot("a-1")


def test_workers_that_failed_are_left_out(view: ClusterView) -> None:
    views.add_node(view, views.node("n"), workers=2)
    decision = decide(view, views.model(), excluded=frozenset({"n/w0"}))
    assert isinstance(decision, StartInstance)
    assert decision.placement.worker_id == "n/w1"
    assert decide(view, views.model(), excluded=frozenset({"n/w0", "n/w1"})) == Wait(WaitReason.ALL_FAILED)


def test_only_live_and_answering_workers_are_started_on(view: ClusterView) -> None:
    views.add_node(view, views.node("n"), workers=4)
    view.disconnect("n/w0", 1.0)
    view.apply_report(WorkerReport("n/w1", draining=True), 1.0)
    view.workers.pop("n/w2")
    decision = decide(view, views.model())
    assert isinstance(decision, StartInstance)
    assert (decision.placement.worker_id, decision.alternatives) == ("n/w3", ())
    view.nodes.clear()
    assert decide(view, views.model()) == Wait(WaitReason.NO_WORKERS)


def test_what_a_worker_runs_unasked_holds_its_slot(view: ClusterView) -> None:
    (worker,) = views.add_node(view, views.node("n"))
    stray = views.put(view, "x", views.model("x"), "n/w0")
    view.remove_instance(stray.instance_id)
    assert view.free_slots(worker) == 0
    assert decide(view, views.model()) == Wait(WaitReason.NO_SLOT)


def test_instances_of_an_older_checkpoint_are_not_used(view: ClusterView) -> None:
    views.add_node(view, views.node("n"), workers=2)
    views.put(view, "m-1", views.model("m"), "n/w0")
    newer = Model("m", views.model("other").checkpoint)
    decision = decide(view, newer)
    assert isinstance(decision, StartInstance)
    assert decision.placement.worker_id == "n/w1"


def test_a_worker_that_has_the_model_parked_is_preferred(view: ClusterView) -> None:
    model = views.model()
    views.add_node(view, views.node("a"))
    views.add_node(view, views.node("b"))
    views.hold(view, "a", model, dram=GB)
    view.apply_report(WorkerReport("b/w0", parked=(ParkedCheckpoint(model.checkpoint.digest, GB),)), 0.0)
    decision = decide(view, model)
    assert isinstance(decision, StartInstance)
    assert decision.placement.worker_id == "b/w0"

"""Instances that share a device's memory: what is free there, and who leaves so that a model fits."""

from dataclasses import replace

import pytest

from kindling.platform.errors import ResourceExhaustedError
from kindling.scheduler.domain.decisions import (
    AwaitSlot,
    ClearDevices,
    Decision,
    MoveInstance,
    Need,
    StartInstance,
    StopInstance,
    Wait,
    WaitReason,
)
from kindling.scheduler.domain.planner import Planner
from kindling.scheduler.domain.policy import Policy
from kindling.scheduler.domain.values import InstanceState, ParkedCheckpoint, ReportedInstance, WorkerReport
from kindling.scheduler.domain.view import ClusterView
from support import scheduler_views as views
from support.scheduler_views import GB

SIZES = {"two": 2, "three": 3, "five": 5, "eight": 8, "ten": 10}
MODELS = {name: views.model(name, total_bytes=size * GB) for name, size in SIZES.items()}
NOW = 1000.0


def with_memory(view: ClusterView, name: str, gigabytes: int, slots: int = 4) -> str:
    """A node with one worker, whose device holds so much; returns the worker's id."""
    (worker,) = views.add_node(view, views.node(name, ssd=1e9, remote=1e8), slots=slots)
    view.workers[worker.worker_id] = replace(worker, memory_bytes=gigabytes * GB)
    return worker.worker_id


@pytest.fixture
def view() -> ClusterView:
    """A node whose worker runs up to four models at once, in ten gigabytes."""
    view = ClusterView()
    with_memory(view, "n", 10)
    return view


def run(view: ClusterView, model: str, worker_id: str = "n/w0", busy: bool = False, now: float = NOW) -> str:
    name = f"{model}-1"
    views.put(view, name, MODELS[model], worker_id, now=now)
    if busy:
        view.grants.grant(f"g-{name}", name, now)
    return name


def decide(view: ClusterView, model: str) -> Decision:
    view.check_integrity()
    return Policy().decide(view, Need(MODELS[model], queued=1, since=NOW), NOW)


# What is free


def test_a_slot_is_free_for_what_its_memory_holds(view: ClusterView) -> None:
    run(view, "five", busy=True)
    run(view, "two", busy=True)
    assert isinstance(decide(view, "three"), StartInstance)
    run(view, "three", busy=True)
    assert decide(view, "ten") == Wait(WaitReason.NO_SLOT), "a slot is left, and no memory"


def test_what_starts_and_what_stops_need_their_memory_too(view: ClusterView) -> None:
    views.put(view, "five-1", MODELS["five"], "n/w0", InstanceState.STARTING)
    views.put(view, "three-1", MODELS["three"], "n/w0", InstanceState.STOPPING)
    view.grants.grant("g", "three-1", NOW)
    assert view.free_bytes(view.workers["n/w0"]) == 2 * GB
    assert decide(view, "three") == Wait(WaitReason.NO_SLOT)


def test_what_is_parked_is_dropped_for_others_and_so_needs_nothing(view: ClusterView) -> None:
    parked = (ParkedCheckpoint("blake3:x", 9 * GB),)
    view.apply_report(WorkerReport("n/w0", (), parked=parked), NOW)
    assert isinstance(decide(view, "eight"), StartInstance)


def test_what_nobody_has_decided_may_need_all_the_memory(view: ClusterView) -> None:
    view.apply_report(WorkerReport("n/w0", (ReportedInstance("stranger"),)), NOW)
    assert decide(view, "two") == Wait(WaitReason.NO_SLOT)
    view.apply_report(WorkerReport("n/w0"), NOW)
    assert isinstance(decide(view, "two"), StartInstance)


def test_the_other_device_is_taken_where_the_sooner_one_is_full(view: ClusterView) -> None:
    with_memory(view, "other", 10)
    views.hold(view, "n", MODELS["five"], dram=5 * GB)
    run(view, "eight", busy=True)
    decision = decide(view, "five")
    assert isinstance(decision, StartInstance)
    assert decision.placement.worker_id == "other/w0"


def test_an_operators_move_needs_memory_there(view: ClusterView) -> None:
    planner = views.planner()
    for name in ("a", "b"):
        with_memory(planner.view, name, 10)
    views.put(planner.view, "five-1", MODELS["five"], "a/w0")
    views.put(planner.view, "eight-1", MODELS["eight"], "b/w0")
    there, source = planner.view.workers["b/w0"], planner.view.instances["five-1"]
    with pytest.raises(ResourceExhaustedError) as refused:
        planner.relocation.to_worker(MODELS["five"], there, [source], NOW)
    assert refused.value.reason == "NO_FREE_MEMORY"
    assert f"{2 * GB:,}" in refused.value.message


# Who leaves


def stopped(decision: Decision) -> set[str]:
    assert isinstance(decision, ClearDevices)
    assert decision.worker_ids == ("n/w0",)
    return {step.instance_id for step in decision.steps if isinstance(step, StopInstance)}


def test_as_many_leave_as_it_takes(view: ClusterView) -> None:
    for model in ("two", "three", "five"):
        run(view, model)
    assert stopped(decide(view, "ten")) == {"two-1", "three-1", "five-1"}
    assert stopped(decide(view, "eight")) == {"three-1", "five-1"}


def test_two_leave_where_they_are_missed_less_than_one(view: ClusterView) -> None:
    views.hold(view, "n", MODELS["two"], ssd=2 * GB, dram=2 * GB)
    views.hold(view, "n", MODELS["three"], ssd=3 * GB, dram=3 * GB)
    for model in ("two", "three", "five"):
        run(view, model)
    wanted = views.model("wanted", total_bytes=5 * GB)
    decision = Policy().decide(view, Need(wanted, queued=1, since=NOW), NOW)
    assert stopped(decision) == {"two-1", "three-1"}, "both are back in a moment, the other has to be fetched"


def test_one_leaves_as_ever_where_that_is_enough(view: ClusterView) -> None:
    run(view, "two", now=NOW - 500)
    run(view, "eight", now=NOW - 400)
    assert decide(view, "five") == StopInstance("eight-1", "the slot is needed by another model")


def test_who_is_idle_stops_and_who_is_busy_moves(view: ClusterView) -> None:
    with_memory(view, "small", 5)
    run(view, "three", busy=True)
    run(view, "five")
    decision = decide(view, "ten")
    assert isinstance(decision, ClearDevices)
    moves = [step for step in decision.steps if isinstance(step, MoveInstance)]
    assert [(step.instance_id, step.target.worker_id) for step in moves] == [("three-1", "small/w0")]
    assert stopped(decision) == {"five-1"}


def test_two_that_move_do_not_go_to_the_same_slot(view: ClusterView) -> None:
    for name in ("a", "b"):
        with_memory(view, name, 5, slots=1)
    run(view, "three", busy=True)
    run(view, "five", busy=True)
    decision = decide(view, "ten")
    assert isinstance(decision, ClearDevices)
    targets = {step.target.worker_id for step in decision.steps if isinstance(step, MoveInstance)}
    assert targets == {"a/w0", "b/w0"}
    view.workers.pop("b/w0")
    assert decide(view, "ten") == Wait(WaitReason.NO_SLOT)


def test_a_busy_one_makes_room_on_the_only_device_that_is_large_enough(view: ClusterView) -> None:
    with_memory(view, "small", 5, slots=1)
    view.workers["n/w0"] = replace(view.workers["n/w0"], slots=1)
    run(view, "five", busy=True)
    decision = decide(view, "ten")
    assert isinstance(decision, MoveInstance)
    assert (decision.instance_id, decision.target.worker_id) == ("five-1", "small/w0")


def test_nobody_leaves_where_not_even_all_would_make_room(view: ClusterView) -> None:
    run(view, "eight", busy=True)
    run(view, "two")
    assert decide(view, "three") == Wait(WaitReason.NO_SLOT)


def test_those_that_leave_already_are_counted_on_together(view: ClusterView) -> None:
    for model in ("three", "five"):
        views.put(view, f"{model}-1", MODELS[model], "n/w0", InstanceState.STOPPING)
    run(view, "two")
    decision = decide(view, "ten")
    assert isinstance(decision, ClearDevices)
    assert {step for step in decision.steps if isinstance(step, AwaitSlot)} == {
        AwaitSlot("three-1"),
        AwaitSlot("five-1"),
    }
    assert stopped(decision) == {"two-1"}


# Plans


def waiting(*models: str) -> Planner:
    """A planner with the device, for which these models wait, in turn."""
    planner = views.planner()
    with_memory(planner.view, "n", 10)
    for number, name in enumerate(models):
        planner.view.models[name] = MODELS[name]
        planner.hold(views.request(f"g{number}", name, NOW + number), NOW + number)
    return planner


def test_no_memory_is_given_twice() -> None:
    planner = waiting("five", "three", "eight", "two")
    starts = planner.plan(NOW + 10).starts
    assert [start.instance.model for start in starts] == ["five", "three", "two"], "the large one holds nobody up"
    planner.view.check_integrity()


def test_nobody_takes_the_memory_that_is_counted_on_by_who_waits_for_longer() -> None:
    planner = waiting("eight", "two")
    run(planner.view, "three", now=NOW - 100)
    run(planner.view, "five", now=NOW - 100)
    plan = planner.plan(NOW + 10)
    assert {stop.instance.instance_id for stop in plan.stops} == {"three-1", "five-1"}
    assert not plan.starts, "there are two gigabytes, of the eight that the other waits for"
    for stop in plan.stops:
        planner.view.remove_instance(stop.instance.instance_id)
    views.report(planner.view, "n/w0")
    assert [start.instance.model for start in planner.plan(NOW + 11).starts] == ["eight", "two"]
    planner.view.check_integrity()


def test_it_goes_on_counting_on_those_that_leave_until_all_are_gone() -> None:
    planner = waiting("ten")
    for model in ("two", "three", "five"):
        run(planner.view, model, now=NOW - 100)
    assert len(planner.plan(NOW + 10).stops) == 3
    for number, name in enumerate(("two-1", "five-1", "three-1")):
        plan = planner.plan(NOW + 11 + number)
        assert (plan.starts, plan.stops, plan.moves) == ([], [], [])
        planner.view.remove_instance(name)
        views.report(planner.view, "n/w0")
    assert len(planner.plan(NOW + 20).starts) == 1
    planner.view.check_integrity()


def test_who_leaves_a_drained_node_has_several_make_room_one_after_the_other() -> None:
    planner = views.planner()
    for name in ("n", "drained"):
        with_memory(planner.view, name, 10)
    for model in ("two", "three", "five"):
        run(planner.view, model, now=NOW - 100)
    run(planner.view, "ten", "drained/w0", busy=True, now=NOW - 1)
    planner.view.drained.add("drained")
    stopped = [stop.instance.instance_id for step in range(4) for stop in planner.plan(NOW + step).stops]
    assert sorted(stopped) == ["five-1", "three-1", "two-1"]
    for name in stopped:
        planner.view.remove_instance(name)
        views.report(planner.view, "n/w0")
    (move,) = planner.plan(NOW + 5).moves
    assert move.start is not None
    assert move.start.instance.worker_id == "n/w0"
    planner.view.check_integrity()

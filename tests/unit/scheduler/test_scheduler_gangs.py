"""Models that take several devices: where they go, who makes room for them, and what becomes of them."""

from dataclasses import replace

import pytest

from kindling.platform.errors import FailedPreconditionError, UnimplementedError
from kindling.scheduler.domain.decisions import (
    ClearDevices,
    Decision,
    JoinInstance,
    MoveInstance,
    Need,
    StartInstance,
    StopInstance,
    Wait,
    WaitReason,
)
from kindling.scheduler.domain.device_sizes import DeviceSizes
from kindling.scheduler.domain.planner import Planner
from kindling.scheduler.domain.policy import Policy
from kindling.scheduler.domain.values import InstanceState, LoadReport, Worker
from kindling.scheduler.domain.view import ClusterView
from support import scheduler_views as views
from support.scheduler_views import GB

PAIR = views.model("pair", total_bytes=30 * GB, devices=2, concurrency_target=1)
ONE = views.model("one", total_bytes=10 * GB, concurrency_target=1)
NOW = 1000.0


def add(view: ClusterView, name: str, workers: int, gigabytes: int = 24, device: str = "cuda:0") -> None:
    """A node with so many devices of a kind, each of so much memory."""
    for worker in views.add_node(view, views.node(name, dram=1e10, ssd=1e9, remote=1e8), workers, device=device):
        view.workers[worker.worker_id] = replace(worker, memory_bytes=gigabytes * GB)


@pytest.fixture
def view() -> ClusterView:
    """A node with four devices, and one with two."""
    view = ClusterView()
    add(view, "four", 4)
    add(view, "two", 2)
    view.models["pair"] = PAIR
    return view


def run(view: ClusterView, worker_id: str, busy: bool = False, now: float = NOW - 100) -> str:
    name = "one-" + worker_id.replace("/", "-")
    views.put(view, name, ONE, worker_id, now=now)
    if busy:
        view.grants.grant(f"g-{name}", name, now)
    return name


def decide(view: ClusterView, queued: int = 1) -> Decision:
    view.check_integrity()
    return Policy().decide(view, Need(PAIR, queued=queued, since=NOW), NOW)


def taken(decision: Decision) -> tuple[str, ...]:
    assert isinstance(decision, StartInstance)
    return (decision.placement.worker_id, *decision.placement.others)


# Where


def test_it_takes_devices_of_one_node_where_it_is_ready_soonest(view: ClusterView) -> None:
    views.hold(view, "two", PAIR, dram=30 * GB)
    assert taken(decide(view)) == ("two/w0", "two/w1")
    run(view, "two/w1", busy=True)
    assert isinstance(decide(view), ClearDevices), "moving somebody takes less than fetching this elsewhere"
    view.remove_residency("two", PAIR.checkpoint.digest)
    assert taken(decide(view)) == ("four/w0", "four/w1")


def test_its_devices_are_of_one_kind_and_large_enough(view: ClusterView) -> None:
    for worker_id in ("four/w0", "four/w2"):
        view.workers[worker_id] = replace(view.workers[worker_id], device="rocm:0")
    view.workers["two/w0"] = replace(view.workers["two/w0"], memory_bytes=14 * GB)
    assert taken(decide(view)) == ("four/w0", "four/w2")
    view.workers["four/w2"] = replace(view.workers["four/w2"], memory_bytes=14 * GB)
    assert taken(Policy().decide(view, Need(PAIR, queued=1, excluded=view.sizes.too_small(15 * GB)), NOW)) == (
        "four/w1",
        "four/w3",
    )


def test_a_second_one_takes_other_devices(view: ClusterView) -> None:
    views.put(view, "pair-1", PAIR, "four/w0", others=("four/w1",))
    view.grants.grant("g", "pair-1", NOW)
    assert taken(decide(view, queued=1)) in {("four/w2", "four/w3"), ("two/w0", "two/w1")}
    assert not view.slots.has_room("four/w1", 1)


# Who makes room


def test_the_devices_that_cost_least_are_cleared(view: ClusterView) -> None:
    for worker_id in ("four/w0", "four/w1", "four/w2", "two/w0"):
        run(view, worker_id, busy=True)
    views.put(view, "idle-1", views.model("idle", total_bytes=10 * GB), "four/w3", now=NOW - 100)
    decision = decide(view)
    assert isinstance(decision, ClearDevices)
    assert decision.worker_ids[0].startswith("four"), "on the other node, somebody busy has to move as well, to"
    stops = [step.instance_id for step in decision.steps if isinstance(step, StopInstance)]
    moves = [step for step in decision.steps if isinstance(step, MoveInstance)]
    assert stops == ["idle-1"]
    assert [move.target.worker_id for move in moves] == ["two/w1"]


def test_who_is_busy_joins_another_of_its_model_elsewhere(view: ClusterView) -> None:
    for worker_id in ("four/w0", "four/w1", "four/w2", "two/w0"):
        run(view, worker_id, busy=True)
    idle = run(view, "four/w3")
    decision = decide(view)
    assert isinstance(decision, ClearDevices)
    assert decision.worker_ids == ("two/w0", "two/w1"), "that takes a handover, and no start"
    assert [(step.instance_id, step.target_id) for step in decision.steps if isinstance(step, JoinInstance)] == [
        ("one-two-w0", idle)
    ]


def test_one_on_several_devices_joins_another_and_leaves_all_of_them(view: ClusterView) -> None:
    other = views.model("other", total_bytes=30 * GB, devices=2, concurrency_target=4)
    for node_id, generations in (("four", 1), ("two", 3)):
        views.put(view, f"other-{node_id}", other, f"{node_id}/w0", now=NOW - 100, others=(f"{node_id}/w1",))
        for number in range(generations):
            view.grants.grant(f"g-{node_id}-{number}", f"other-{node_id}", NOW - 100)
    for worker_id in ("four/w2", "four/w3"):
        run(view, worker_id, busy=True)
    decision = decide(view)
    assert isinstance(decision, ClearDevices)
    assert decision.worker_ids == ("four/w0", "four/w1")
    assert [type(step) for step in decision.steps] == [JoinInstance]
    small = Policy().decide(view, Need(views.model("small"), queued=1, since=NOW), NOW)
    assert isinstance(small, JoinInstance)
    assert (small.instance_id, small.target_id) == ("other-four", "other-two")
    assert decide(view, queued=0) == Wait(WaitReason.ENOUGH)


def test_no_more_of_a_model_leave_its_devices_than_its_minimum_allows(view: ClusterView) -> None:
    kept = views.model("kept", total_bytes=20 * GB, min_instances=2)
    view.nodes.pop("two")
    for number in range(4):
        views.put(view, f"kept-{number}", kept, f"four/w{number}", now=NOW - 100)
    decision = decide(view)
    assert isinstance(decision, ClearDevices)
    assert len(decision.steps) == 2
    view.models["kept"] = replace(kept, settings=replace(kept.settings, min_instances=3))
    assert decide(view) == Wait(WaitReason.NO_SLOT), "only one of them may leave"


def test_an_idle_pair_counts_once_against_its_minimum(view: ClusterView) -> None:
    view.nodes.pop("four")
    other = views.model("other", total_bytes=30 * GB, devices=2, min_instances=1)
    views.put(view, "other-1", other, "two/w0", now=NOW - 100, others=("two/w1",))
    add(view, "five", 2)
    views.put(view, "other-2", other, "five/w0", now=NOW - 50, others=("five/w1",))
    decision = decide(view)
    assert isinstance(decision, StopInstance | ClearDevices)


def test_what_is_free_already_is_kept_for_it_meanwhile(view: ClusterView) -> None:
    view.nodes.pop("four")
    run(view, "two/w0")
    planner = Planner(Policy(), views.planner().limits, lambda: "1")
    planner.view, other = planner.view, views.model("other", total_bytes=GB)
    for node_id, node in view.nodes.items():
        planner.view.nodes[node_id] = node
    add(planner.view, "two", 2)
    run(planner.view, "two/w0")
    planner.view.models |= {"pair": PAIR, "other": other}
    planner.hold(views.request("g1", "pair", NOW), NOW)
    planner.hold(views.request("g2", "other", NOW + 1), NOW + 1)
    plan = planner.plan(NOW + 2)
    assert [stop.instance.instance_id for stop in plan.stops] == ["one-two-w0"]
    assert not plan.starts, "the other device is free, but half of what the pair waits for"
    planner.view.remove_instance("one-two-w0")
    for name in ("two/w0", "two/w1"):
        views.report(planner.view, name)
    (start,) = planner.plan(NOW + 3).starts
    assert start.instance.worker_ids == ("two/w0", "two/w1")
    assert start.instance.device_bytes == 15 * GB
    planner.view.check_integrity()


def test_it_waits_where_too_few_devices_can_be_cleared(view: ClusterView) -> None:
    for worker_id in view.workers:
        run(view, worker_id, busy=True)
    assert decide(view) == Wait(WaitReason.NO_SLOT)


def test_an_idle_pair_is_evicted_once_for_both_its_devices(view: ClusterView) -> None:
    add(view, "large", 2, gigabytes=80)
    other = views.model("other-pair", total_bytes=100 * GB, devices=2)
    views.put(view, "other-pair-1", other, "large/w0", others=("large/w1",), now=NOW - 100)
    wanted = views.model("wanted", total_bytes=90 * GB, devices=2)
    need = Need(wanted, queued=1, excluded=view.sizes.too_small(wanted.device_bytes), since=NOW)
    decision = Policy().place(view, need, NOW)
    assert isinstance(decision, ClearDevices)
    assert [step.instance_id for step in decision.steps] == ["other-pair-1"]


def test_a_busy_pair_does_not_move(view: ClusterView) -> None:
    views.put(view, "pair-1", PAIR, "two/w0", others=("two/w1",))
    view.grants.grant("g", "pair-1", NOW)
    for number in range(4):
        run(view, f"four/w{number}", busy=True)
    wanted = views.model("wanted", total_bytes=40 * GB, devices=2)
    assert Policy().place(view, Need(wanted, queued=1, since=NOW), NOW) == Wait(WaitReason.NO_SLOT)


# What becomes of it


def served(gigabytes: int = 24, workers: int = 2) -> Planner:
    planner = views.planner()
    add(planner.view, "n", workers, gigabytes)
    planner.view.models["pair"] = PAIR
    return planner


def test_it_starts_serves_and_stops_on_all_its_devices_at_once() -> None:
    planner = served()
    planner.hold(views.request("g", "pair", NOW), NOW)
    (start,) = planner.plan(NOW).starts
    name = start.instance.instance_id
    assert start.instance.worker_ids == ("n/w0", "n/w1")
    assert not planner.view.slots, "both are taken"
    planner.outcomes.started(name, LoadReport(complete=True), NOW + 5)
    views.report(planner.view, "n/w0")
    assert [grant.instance.instance_id for grant in planner.plan(NOW + 5).grants] == [name]
    gone, strangers = planner.view.apply_report(replace(planner.view.link("n/w1").report, instances=()), NOW + 6)
    assert (gone, strangers) == ([], []), "the other says nothing of it: the first speaks for both"
    planner.release("g", NOW + 6)
    (stop,) = planner.plan(NOW + 1000).stops
    assert stop.instance.worker_ids == ("n/w0", "n/w1")
    assert not planner.view.slots, "until it is gone"
    planner.view.remove_instance(name)
    views.report(planner.view, "n/w0")
    assert planner.view.slots.has_room("n/w0", 1)
    assert planner.view.slots.has_room("n/w1", 1)
    planner.view.check_integrity()


def test_the_loss_of_any_of_its_workers_is_told_until_it_stops() -> None:
    planner = served()
    views.put(planner.view, "pair-1", PAIR, "n/w0", others=("n/w1",), now=NOW)
    planner.view.disconnect("n/w1", NOW)
    assert planner.lost_workers(NOW + 100) == ["n/w1"]
    planner.stop("pair-1", "n/w1 was lost", NOW + 100)
    assert planner.lost_workers(NOW + 200) == []
    planner.view.check_integrity()
    planner.view.disconnect("n/w0", NOW + 200)
    assert planner.lost_workers(NOW + 300) == ["n/w0"]


def test_on_a_drained_node_a_busy_one_ends_with_its_work() -> None:
    planner = served()
    add(planner.view, "other", 2)
    views.put(planner.view, "pair-1", PAIR, "n/w0", others=("n/w1",), now=NOW)
    planner.view.grants.grant("g", "pair-1", NOW)
    planner.view.drained.add("n")
    plan = planner.plan(NOW)
    assert (plan.moves, plan.stops) == ([], [])
    assert "2 devices and cannot move" in planner.relocation.obstacle("n")
    assert len(planner.view.instances_on_node("n")) == 1
    planner.release("g", NOW + 1)
    assert [stop.instance.instance_id for stop in planner.plan(NOW + 1).stops] == ["pair-1"]


def test_what_no_worker_can_do_is_not_tried_again_until_another_comes() -> None:
    planner = served()
    refusal = UnimplementedError("one device alone", reason="TENSOR_PARALLEL_NOT_SUPPORTED")
    planner.hold(views.request("g1", "pair", NOW), NOW)
    (start,) = planner.plan(NOW).starts
    refused = planner.start_failed(start.instance.instance_id, refusal, NOW + 1)
    assert [one.error.reason for one in refused] == ["TENSOR_PARALLEL_NOT_SUPPORTED"]
    with pytest.raises(UnimplementedError):
        planner.hold(views.request("g2", "pair", NOW + 10_000), NOW + 10_000)
    planner.view.models["pair"] = replace(PAIR, settings=replace(PAIR.settings, min_instances=1))
    assert planner.plan(NOW + 20_000).starts == []
    assert planner.next_deadline(NOW + 20_000) is None
    planner.troubles.readmit("n/w2")
    assert len(planner.plan(NOW + 20_001).starts) == 1


def test_it_starts_again_where_one_of_its_workers_was_avoided() -> None:
    planner = served(workers=4)
    views.put(planner.view, "pair-1", PAIR, "n/w0", InstanceState.STARTING, others=("n/w1",), now=NOW)
    planner.hold(replace(views.request("g", "pair", NOW), avoid=frozenset({"pair-1"})), NOW)
    (start,) = planner.plan(NOW).starts
    assert start.instance.worker_ids == ("n/w2", "n/w3")


# Where there is no place for it


def refusal(planner: Planner, total_gigabytes: int, devices: int) -> FailedPreconditionError:
    planner.view.models["m"] = views.model("m", total_bytes=total_gigabytes * GB, devices=devices)
    with pytest.raises(FailedPreconditionError) as told:
        planner.hold(views.request("g", "m", NOW), NOW)
    assert told.value.reason == "NO_DEVICE_LARGE_ENOUGH"
    return told.value


def test_one_that_several_devices_of_a_node_would_hold_is_told_so() -> None:
    told = refusal(served(24, workers=4), 60, devices=1)
    assert "`--devices 3`" in told.message
    assert f"{60 * GB:,} bytes of weights, and the largest device holds {24 * GB:,}" in told.message


def test_too_large_parts_and_too_few_devices_are_told_apart() -> None:
    planner = served(24, workers=2)
    told = refusal(planner, 60, devices=2)
    assert f"{30 * GB:,} for each of its 2 devices, and the largest 2 of a node hold {24 * GB:,} each" in told.message
    assert "add a worker" in told.message
    told = refusal(planner, 60, devices=3)
    assert "no node has 3 devices of a kind: start workers until a node has 3, or deploy it with fewer" in told.message
    assert (told.metadata["devices"], told.metadata["largest_device_bytes"]) == ("3", "0")
    assert "`--devices 2`" in refusal(planner, 40, devices=3).message


def test_a_device_that_does_not_tell_may_hold_any_part() -> None:
    sizes = DeviceSizes()
    for name, memory_bytes in (("a", 5), ("b", 0), ("c", 7)):
        sizes.enter(name, Worker(name, "n", f"{name}:1", memory_bytes=memory_bytes))
    assert [sizes.largest_bytes(count) for count in (2, 3, 4)] == [7, 5, -1]
    assert (sizes.devices_for(12), sizes.devices_for(15), sizes.devices_for(16)) == (2, 3, None)

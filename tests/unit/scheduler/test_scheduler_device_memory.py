"""A worker's instances share its device's memory: a slot is free for a model only if enough of it is left."""

from dataclasses import replace

import pytest

from kindling.platform.errors import ResourceExhaustedError
from kindling.scheduler.domain.planner import Planner
from kindling.scheduler.domain.values import InstanceState, Model, ReportedInstance, Worker, WorkerReport
from support import scheduler_views as views
from support.scheduler_views import GB

BIG = views.model("big", total_bytes=16 * GB)
SMALL = views.model("small", total_bytes=8 * GB)
TINY = views.model("tiny", total_bytes=2 * GB)
BUSY = views.model("busy", total_bytes=16 * GB)


def add_worker(planner: Planner, name: str, gigabytes: int, slots: int = 3) -> Worker:
    (added,) = views.add_node(planner.view, views.node(name), slots=slots)
    planner.view.workers[added.worker_id] = worker = replace(added, memory_bytes=gigabytes * GB)
    return worker


@pytest.fixture
def planner() -> Planner:
    planner = views.planner()
    for model in (BIG, SMALL, TINY, BUSY):
        planner.view.models[model.name] = model
    return planner


def run_busy(planner: Planner, name: str, model: Model, worker_id: str) -> None:
    views.put(planner.view, name, model, worker_id)
    planner.view.grants.grant(f"g-{name}", name, 0.0)


def ask(planner: Planner, model: Model, name: str, now: float = 0.0) -> None:
    planner.hold(views.request(name, model=model.name, now=now), now)


def started(planner: Planner, now: float = 1.0) -> list[tuple[str, str]]:
    plan = planner.plan(now)
    planner.view.check_integrity()
    return [(start.instance.model, start.instance.worker_id) for start in plan.starts]


@pytest.mark.parametrize("state", InstanceState)
def test_an_instance_takes_memory_until_it_is_gone(planner: Planner, state: InstanceState) -> None:
    worker = add_worker(planner, "a", 24)
    views.put(planner.view, "big-1", BIG, "a/w0", state)
    assert planner.view.free_bytes(worker) == 8 * GB
    assert (planner.view.has_room("a/w0", 8 * GB), planner.view.has_room("a/w0", 8 * GB + 1)) == (True, False)
    planner.view.remove_instance("big-1")
    views.report(planner.view, "a/w0")
    assert planner.view.has_room("a/w0", 24 * GB)


def test_a_free_slot_with_too_little_memory_is_passed_over(planner: Planner) -> None:
    add_worker(planner, "a", 24)
    add_worker(planner, "b", 16)
    run_busy(planner, "busy-1", BUSY, "a/w0")
    ask(planner, BIG, "g1")
    ask(planner, SMALL, "g2")
    assert sorted(started(planner)) == [("big", "b/w0"), ("small", "a/w0")]


def test_what_is_decided_in_one_plan_shares_the_memory(planner: Planner) -> None:
    add_worker(planner, "a", 20)
    ask(planner, SMALL, "g1")
    ask(planner, BIG, "g2", 0.1)
    ask(planner, TINY, "g3", 0.2)
    assert started(planner) == [("small", "a/w0"), ("tiny", "a/w0")], "a large model holds up no smaller one"


def test_a_worker_without_memory_left_has_no_slot(planner: Planner) -> None:
    add_worker(planner, "a", 16)
    run_busy(planner, "busy-1", BUSY, "a/w0")
    assert "a/w0" not in planner.view.slots
    planner.view.check_integrity()


def test_what_nobody_knows_is_taken_to_fill_the_device(planner: Planner) -> None:
    worker = add_worker(planner, "a", 24)
    planner.view.apply_report(WorkerReport("a/w0", (ReportedInstance("stranger"),)), 0.0)
    assert planner.view.free_bytes(worker) == 0.0
    planner.view.apply_report(WorkerReport("a/w0"), 0.0)
    assert planner.view.free_bytes(worker) == 24 * GB


def test_an_instance_keeps_its_size_when_its_model_gets_another_checkpoint(planner: Planner) -> None:
    worker = add_worker(planner, "a", 24)
    run_busy(planner, "small-1", SMALL, "a/w0")
    planner.view.models["small"] = replace(SMALL, checkpoint=replace(TINY.checkpoint, digest="blake3:new"))
    assert planner.view.free_bytes(worker) == 16 * GB
    planner.view.models.pop("small")
    assert planner.view.free_bytes(worker) == 16 * GB
    planner.view.check_integrity()


def test_a_worker_that_does_not_tell_is_bounded_by_its_slots_alone(planner: Planner) -> None:
    views.add_node(planner.view, views.node("a"), slots=2)
    for number in (1, 2):
        ask(planner, BIG, f"g{number}")
    ask(planner, SMALL, "g3")
    assert len(started(planner)) == 2


def test_an_operator_is_told_how_much_memory_is_missing(planner: Planner) -> None:
    worker = add_worker(planner, "a", 20)
    add_worker(planner, "b", 24)
    run_busy(planner, "busy-1", BUSY, "a/w0")
    source = views.put(planner.view, "small-1", SMALL, "b/w0")
    with pytest.raises(ResourceExhaustedError) as told:
        planner.relocation.to_worker(SMALL, worker, [source], 0.0)
    assert told.value.reason == "NO_FREE_MEMORY"
    assert "4,000,000,000 of 20,000,000,000 bytes free" in told.value.message

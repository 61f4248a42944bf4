"""Startup times, by hand."""

from dataclasses import replace

import pytest

from kindling.scheduler.domain.estimate import Assumptions, estimate
from kindling.scheduler.domain.values import (
    Instance,
    InstanceState,
    LoadProgress,
    LoadReport,
    Model,
    ParkedCheckpoint,
    Tier,
    TierTraffic,
    WorkerReport,
)
from kindling.scheduler.domain.view import ClusterView
from support import scheduler_views as views
from support.scheduler_views import GB

ASSUMED = Assumptions(init_seconds=0.5)
MODEL = views.model(total_bytes=10 * GB)
OTHER = views.model("x", total_bytes=8 * GB)


def seconds(view: ClusterView, worker_id: str, now: float = 0.0, model: Model = MODEL) -> float:
    return estimate(view, view.workers[worker_id], model.checkpoint, now, ASSUMED).seconds


def starting(view: ClusterView, name: str, worker_id: str, now: float = 0.0, model: Model = OTHER) -> Instance:
    """Enter an instance whose start was just decided."""
    instance = Instance(name, model.name, model.checkpoint.digest, worker_id, InstanceState.STARTING, started_at=now)
    view.models.setdefault(model.name, model)
    view.put_instance(instance, now)
    return instance


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        ({}, 10 / 0.5),
        ({"ssd": 10 * GB}, 10 / 2),
        ({"dram": 10 * GB}, 0.5),
        ({"dram": 4 * GB, "ssd": 10 * GB}, 6 / 2),
        ({"dram": 4 * GB, "ssd": 6 * GB}, 2 / 2 + 4 / 0.5),
        ({"dram": 4 * GB, "ssd": 3 * GB}, 6 / 0.5),
    ],
)
def test_each_chunk_comes_from_the_fastest_tier_that_has_it(held: dict[str, int], expected: float) -> None:
    view = ClusterView()
    views.add_node(view, views.node("n", dram=20 * GB, ssd=2 * GB, remote=GB / 2))
    views.hold(view, "n", MODEL, **held)
    assert seconds(view, "n/w0") == pytest.approx(expected)


def test_the_slowest_tier_on_the_path_sets_the_pace() -> None:
    view = ClusterView()
    views.add_node(view, views.node("n", dram=4 * GB, remote=5 * GB), device="cuda:0")
    assert seconds(view, "n/w0") == pytest.approx(10 / 4)


def test_what_comes_from_the_remote_store_does_not_wait_for_the_disk_on_which_it_is_kept() -> None:
    view = ClusterView()
    views.add_node(view, views.node("n", dram=20 * GB, ssd=GB, remote=5 * GB))
    assert seconds(view, "n/w0") == pytest.approx(10 / 5)


def test_a_gpu_reads_dram_over_a_link_of_its_own() -> None:
    view = ClusterView()
    views.add_node(view, views.node("n", dram=8 * GB), device="cuda:0")
    views.hold(view, "n", MODEL, dram=10 * GB)
    assert seconds(view, "n/w0") == pytest.approx(10 / 8)
    views.hold(view, "n", MODEL, gpu=10 * GB)
    assert seconds(view, "n/w0") == pytest.approx(0.5)


def test_what_was_never_measured_is_assumed() -> None:
    view = ClusterView()
    views.add_node(view, views.node("n"))
    views.hold(view, "n", MODEL, ssd=10 * GB)
    assert seconds(view, "n/w0") == pytest.approx(10 / 1)


def test_loads_under_way_on_the_node_come_first() -> None:
    view = ClusterView()
    views.add_node(view, views.node("n", ssd=GB), workers=2)
    views.hold(view, "n", MODEL, ssd=10 * GB)
    views.hold(view, "n", OTHER, ssd=8 * GB)
    starting(view, "x-1", "n/w1", now=100.0)
    assert seconds(view, "n/w0", now=103.0) == pytest.approx(5 + 10)
    assert seconds(view, "n/w0", now=200.0) == pytest.approx(10), "nobody knows how long a late one still takes"


def test_what_is_in_dram_waits_for_no_load_but_those_of_its_own_device() -> None:
    view = ClusterView()
    views.add_node(view, views.node("n", dram=2 * GB, ssd=GB), workers=2, slots=2, device="cuda:0")
    views.hold(view, "n", MODEL, dram=10 * GB)
    views.hold(view, "n", OTHER, ssd=8 * GB)
    starting(view, "x-1", "n/w1")
    assert seconds(view, "n/w0") == pytest.approx(5)
    assert seconds(view, "n/w1") == pytest.approx(8 + 5)


def test_each_load_under_way_counts_once() -> None:
    view = ClusterView()
    views.add_node(view, views.node("n", ssd=GB), workers=3)
    views.hold(view, "n", MODEL, ssd=10 * GB)
    third = views.model("y", total_bytes=2 * GB)
    for model in (OTHER, third):
        views.hold(view, "n", model, ssd=model.checkpoint.total_bytes)
    starting(view, "x-1", "n/w1", now=100.0)
    starting(view, "y-1", "n/w2", now=101.0, model=third)
    assert seconds(view, "n/w0", now=103.0) == pytest.approx(5 + 2 + 10)
    assert seconds(view, "n/w0", now=120.0) == pytest.approx(2 + 10), "the second begins when the first ends"


def test_what_a_load_has_brought_is_not_waited_for() -> None:
    view = ClusterView()
    views.add_node(view, views.node("n", ssd=GB), workers=2)
    views.hold(view, "n", MODEL, ssd=10 * GB)
    views.hold(view, "n", OTHER, dram=1 * GB, ssd=8 * GB)
    one = starting(view, "x-1", "n/w1", now=100.0)
    view.loads.advance(one, LoadProgress(2 * GB, 8 * GB), 110.0)
    assert seconds(view, "n/w0", now=110.0) == pytest.approx(6 + 10), "it is late, and yet not done"
    assert seconds(view, "n/w0", now=112.0) == pytest.approx(4 + 10)


def test_what_comes_from_the_remote_store_is_left_for_last() -> None:
    view = ClusterView()
    views.add_node(view, views.node("n", ssd=GB, remote=GB / 2), workers=2)
    views.hold(view, "n", MODEL, ssd=10 * GB)
    views.hold(view, "n", OTHER, ssd=6 * GB)
    one = starting(view, "x-1", "n/w1")
    assert seconds(view, "n/w0") == pytest.approx(6 + 4 + 10)
    view.loads.advance(one, LoadProgress(5 * GB, 8 * GB), 0.0)
    assert seconds(view, "n/w0") == pytest.approx(1 + 4 + 10)
    view.loads.advance(one, LoadProgress(7 * GB, 8 * GB), 0.0)
    assert seconds(view, "n/w0") == pytest.approx(2 + 10)


def test_a_load_of_the_same_checkpoint_is_joined() -> None:
    view = ClusterView()
    views.add_node(view, views.node("n", ssd=GB), workers=3)
    for model in (MODEL, OTHER):
        views.hold(view, "n", model, ssd=model.checkpoint.total_bytes)
    starting(view, "m-1", "n/w1", now=100.0, model=MODEL)
    starting(view, "x-1", "n/w2", now=100.0)
    assert seconds(view, "n/w0", now=104.0) == pytest.approx(6), "as long as what is left of it"
    assert seconds(view, "n/w0", now=104.0, model=OTHER) == pytest.approx(6 + 8)


def test_copies_to_another_device_are_in_nobodys_way() -> None:
    view = ClusterView()
    views.add_node(view, views.node("n", dram=2 * GB), workers=2, slots=2, device="cuda:0")
    for model in (MODEL, OTHER):
        views.hold(view, "n", model, dram=model.checkpoint.total_bytes)
    starting(view, "x-1", "n/w1")
    assert seconds(view, "n/w0") == pytest.approx(5)
    assert seconds(view, "n/w1") == pytest.approx(4 + 5)


def test_an_instance_that_takes_generations_is_in_the_way_until_it_is_loaded() -> None:
    view = ClusterView()
    views.add_node(view, views.node("n", ssd=GB), workers=2)
    views.hold(view, "n", MODEL, ssd=10 * GB)
    views.hold(view, "n", OTHER, ssd=8 * GB)
    loading = replace(starting(view, "x-1", "n/w1", now=100.0), state=InstanceState.READY)
    view.put_instance(replace(loading, report=LoadReport(init_seconds=0.5, total_seconds=0.1)), 100.1)
    assert seconds(view, "n/w0", now=103.0) == pytest.approx(5 + 10)
    view.put_instance(replace(loading, report=LoadReport(total_seconds=3.0, complete=True)), 103.0)
    assert seconds(view, "n/w0", now=103.0) == pytest.approx(10)


def test_a_load_that_is_given_up_is_in_nobodys_way() -> None:
    view = ClusterView()
    views.add_node(view, views.node("n", ssd=GB), workers=2)
    views.hold(view, "n", MODEL, ssd=10 * GB)
    one = starting(view, "x-1", "n/w1")
    assert seconds(view, "n/w0") > 11
    view.remove_instance(one.instance_id)
    assert seconds(view, "n/w0") == pytest.approx(10)


def test_a_worker_that_measured_its_init_is_believed_until_the_model_was_started() -> None:
    view = ClusterView()
    (worker,) = views.add_node(view, views.node("n"))
    view.workers[worker.worker_id] = replace(worker, init_seconds=0.125)
    views.hold(view, "n", MODEL, dram=10 * GB)
    assert seconds(view, "n/w0") == pytest.approx(0.125)


def test_init_is_what_it_took_before() -> None:
    view = ClusterView()
    views.add_node(view, views.node("n"))
    views.hold(view, "n", MODEL, dram=10 * GB)
    one = starting(view, "m-1", "n/w0", model=MODEL)
    view.put_instance(replace(one, state=InstanceState.READY, report=LoadReport(init_seconds=2.5)), 3.0)
    assert seconds(view, "n/w0", now=3.0) == pytest.approx(2.5)


def test_missing_bytes_never_exceed_the_checkpoint() -> None:
    view = ClusterView()
    (worker,) = views.add_node(view, views.node("n"))
    views.hold(view, "n", MODEL, dram=3 * GB, ssd=99 * GB)
    assert view.missing_bytes(worker, MODEL.checkpoint) == {Tier.SSD: 7 * GB}


def test_what_a_worker_has_parked_starts_there_at_once_even_behind_a_load() -> None:
    view = ClusterView()
    views.add_node(view, views.node("n", ssd=GB), workers=2)
    views.hold(view, "n", MODEL, ssd=10 * GB)
    views.hold(view, "n", OTHER, ssd=8 * GB)
    view.apply_report(WorkerReport("n/w1", parked=(ParkedCheckpoint(MODEL.checkpoint.digest, 10 * GB),)), 0.0)
    starting(view, "x-1", "n/w0")
    parked = estimate(view, view.workers["n/w1"], MODEL.checkpoint, 0.0, ASSUMED)
    assert (parked.seconds, parked.source) == (ASSUMED.parked_seconds, Tier.GPU)
    view.apply_report(WorkerReport("n/w1"), 1.0)
    assert seconds(view, "n/w1", now=1.0) == pytest.approx(7 + 10)


def test_what_is_parked_is_loaded_by_nobody() -> None:
    view = ClusterView()
    views.add_node(view, views.node("n", ssd=GB), workers=2)
    views.hold(view, "n", MODEL, dram=10 * GB)
    view.models["x"] = OTHER
    parked = Instance("x-1", "x", OTHER.checkpoint.digest, "n/w1", InstanceState.STARTING, source=Tier.GPU)
    view.put_instance(parked, 0.0)
    assert seconds(view, "n/w0") == pytest.approx(0.5)


def test_a_start_from_parked_tells_how_long_such_starts_take_and_nothing_about_building_the_model() -> None:
    view = ClusterView()
    views.add_node(view, views.node("n"))
    views.hold(view, "n", MODEL, dram=10 * GB)
    one = starting(view, "m-1", "n/w0", model=MODEL)
    at_once = LoadReport((TierTraffic(Tier.GPU, 10 * GB, 0.001),), 0.001, 0.001, 0.004, complete=True)
    view.put_instance(replace(one, state=InstanceState.READY, report=at_once), 0.1)
    assert seconds(view, "n/w0") == pytest.approx(0.5)
    view.apply_report(WorkerReport("n/w0", parked=(ParkedCheckpoint(MODEL.checkpoint.digest, 10 * GB),)), 0.2)
    assert seconds(view, "n/w0") == pytest.approx(0.004)
    assert list(view.experience.bandwidths.learned(view.nodes["n"])) == []

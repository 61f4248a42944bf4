"""Startup times, by hand."""

from dataclasses import replace

import pytest

from kindling.scheduler.domain.estimate import Assumptions, estimate, missing_bytes
from kindling.scheduler.domain.values import (
    Instance,
    InstanceState,
    LoadReport,
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


def seconds(view: ClusterView, worker_id: str, now: float = 0.0) -> float:
    return estimate(view, view.workers[worker_id], MODEL.checkpoint, now, ASSUMED).seconds


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
    views.add_node(view, views.node("n", dram=20 * GB, ssd=GB, remote=5 * GB))
    assert seconds(view, "n/w0") == pytest.approx(10 / 1)


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
    views.add_node(view, views.node("n"), workers=2)
    views.hold(view, "n", MODEL, dram=10 * GB)
    view.put_instance(
        Instance("x", "x", "d", "n/w1", InstanceState.STARTING, estimated_seconds=8.0, started_at=100.0), 100.0
    )
    assert seconds(view, "n/w0", now=103.0) == pytest.approx(5 + 0.5)
    assert seconds(view, "n/w0", now=200.0) == pytest.approx(0.5), "a start that is late is not counted"


def test_an_instance_that_takes_generations_is_in_the_way_until_it_is_loaded() -> None:
    view = ClusterView()
    views.add_node(view, views.node("n"), workers=2)
    views.hold(view, "n", MODEL, dram=10 * GB)
    loading = Instance("x", "x", "d", "n/w1", InstanceState.READY, estimated_seconds=8.0, started_at=100.0)
    view.put_instance(replace(loading, report=LoadReport(total_seconds=0.1)), 100.0)
    assert seconds(view, "n/w0", now=103.0) == pytest.approx(5 + 0.5)
    view.put_instance(replace(loading, report=LoadReport(total_seconds=3.0, complete=True)), 103.0)
    assert seconds(view, "n/w0", now=103.0) == pytest.approx(0.5)


def test_a_worker_that_measured_its_init_is_believed_until_the_model_was_started() -> None:
    view = ClusterView()
    (worker,) = views.add_node(view, views.node("n"))
    view.workers[worker.worker_id] = replace(worker, init_seconds=0.125)
    views.hold(view, "n", MODEL, dram=10 * GB)
    assert seconds(view, "n/w0") == pytest.approx(0.125)


def test_init_is_what_it_took_last_time() -> None:
    view = ClusterView()
    views.add_node(view, views.node("n"))
    views.hold(view, "n", MODEL, dram=10 * GB)
    view.put_instance(
        Instance("m-1", "m", MODEL.checkpoint.digest, "n/w0", InstanceState.READY, report=LoadReport(init_seconds=2.5)),
        0,
    )
    assert seconds(view, "n/w0") == pytest.approx(2.5)


def test_missing_bytes_never_exceed_the_checkpoint() -> None:
    view = ClusterView()
    (worker,) = views.add_node(view, views.node("n"))
    views.hold(view, "n", MODEL, dram=3 * GB, ssd=99 * GB)
    assert missing_bytes(view, worker, MODEL.checkpoint) == {Tier.SSD: 7 * GB}


def test_what_a_worker_has_parked_starts_there_at_once_even_behind_a_load() -> None:
    view = ClusterView()
    views.add_node(view, views.node("n"), workers=2)
    views.hold(view, "n", MODEL, dram=10 * GB)
    view.apply_report(WorkerReport("n/w1", parked=(ParkedCheckpoint(MODEL.checkpoint.digest, 10 * GB),)), 0.0)
    view.put_instance(Instance("x", "x", "d", "n/w0", InstanceState.STARTING, estimated_seconds=8.0, started_at=0), 0.0)
    parked = estimate(view, view.workers["n/w1"], MODEL.checkpoint, 0.0, ASSUMED)
    assert (parked.seconds, parked.source) == (ASSUMED.parked_seconds, Tier.GPU)
    view.apply_report(WorkerReport("n/w1"), 1.0)
    assert seconds(view, "n/w1", now=1.0) == pytest.approx(7 + 0.5)


def test_a_start_from_parked_says_nothing_about_building_the_model() -> None:
    view = ClusterView()
    (worker,) = views.add_node(view, views.node("n"))
    views.hold(view, "n", MODEL, dram=10 * GB)
    at_once = LoadReport((TierTraffic(Tier.GPU, 10 * GB, 0.001),), 0.001, 0.001, 0.001, complete=True)
    one = Instance("one", "m", MODEL.checkpoint.digest, worker.worker_id, InstanceState.READY, report=at_once)
    view.put_instance(one, 0.0)
    assert seconds(view, worker.worker_id) == pytest.approx(0.5)

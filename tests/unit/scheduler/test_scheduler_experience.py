"""What starts and migrations teach the view."""

from dataclasses import replace

import pytest

from kindling.scheduler.domain.estimate import Assumptions, Estimate, estimate, generation_tokens, migration_seconds
from kindling.scheduler.domain.track_record import EstimateKind, Quality
from kindling.scheduler.domain.values import (
    Checkpoint,
    Instance,
    InstanceState,
    LoadReport,
    Model,
    ParkedCheckpoint,
    ReportedInstance,
    Tier,
    TierTraffic,
    Worker,
    WorkerReport,
)
from kindling.scheduler.domain.view import ClusterView
from support import scheduler_views as views
from support.scheduler_views import GB

LLAMA = Checkpoint("blake3:m", 10 * GB, architecture="LlamaForCausalLM", dtype="bfloat16", parameter_count=5 * 10**9)
MODEL = Model("m", LLAMA)
FROM_SSD = LoadReport((TierTraffic(Tier.SSD, 10 * GB, 10.0),), 10.0, 2.0, 10.0, complete=True)


def cluster(device: str = "cpu", **bandwidth: float) -> tuple[ClusterView, list[Worker]]:
    view = ClusterView()
    view.models["m"] = MODEL
    return view, views.add_node(view, views.node("n", **bandwidth), workers=2, slots=4, device=device)


def start(view: ClusterView, worker: Worker, report: LoadReport, model: Model = MODEL, name: str = "m-1") -> Instance:
    """Start an instance, and have it be ready and loaded later, as long as it took."""
    placement = foreseen(view, worker, model)
    one = Instance(name, model.name, model.checkpoint.digest, worker.worker_id, InstanceState.STARTING)
    one = replace(one, estimated_seconds=placement.seconds, source=placement.source, started_at=0.0)
    view.put_instance(one, 0.0)
    ready = replace(one, state=InstanceState.READY, ready_at=report.init_seconds)
    built = LoadReport(init_seconds=report.init_seconds, total_seconds=report.init_seconds)
    view.put_instance(replace(ready, report=built), report.init_seconds)
    view.put_instance(replace(ready, report=report), report.total_seconds)
    return replace(ready, report=report)


def foreseen(view: ClusterView, worker: Worker, model: Model = MODEL) -> Estimate:
    return estimate(view, worker, model.checkpoint, 100.0, Assumptions(init_seconds=0.5))


def qualities(view: ClusterView) -> dict[tuple[EstimateKind, Tier | None], Quality]:
    """Those of the node."""
    return {(one.kind, one.source): one for one in view.experience.record.qualities() if one.node_id == "n"}


def test_a_slow_load_teaches_the_next_estimate() -> None:
    view, (worker, _) = cluster(ssd=2 * GB)
    views.hold(view, "n", MODEL, ssd=10 * GB)
    assert foreseen(view, worker).load_seconds == pytest.approx(5)
    start(view, worker, FROM_SSD)
    assert (foreseen(view, worker).load_seconds, foreseen(view, worker).init_seconds) == (pytest.approx(10), 2.0)


def test_each_report_is_learned_once() -> None:
    view, (worker, _) = cluster(ssd=2 * GB)
    one = start(view, worker, FROM_SSD)
    view.put_instance(replace(one, state=InstanceState.STOPPING), 20.0)
    (link,) = view.experience.bandwidths.learned(view.nodes["n"])
    (build,) = view.experience.builds.learned()
    assert (link.loads, build.starts) == (1, 1)


def test_what_runs_already_teaches_a_new_leader() -> None:
    view, (worker, _) = cluster(ssd=2 * GB)
    recorded = Instance("m-1", "m", LLAMA.digest, worker.worker_id, InstanceState.READY, report=FROM_SSD)
    view.put_instance(replace(recorded, started_at=50.0, estimated_seconds=8.0), 50.0)
    views.hold(view, "n", MODEL, ssd=10 * GB)
    assert foreseen(view, worker).load_seconds == pytest.approx(10)
    assert qualities(view)[EstimateKind.STARTUP, Tier.SSD].median_error == pytest.approx(0.2)


def test_estimates_are_compared_with_what_came_of_them() -> None:
    view, (worker, _) = cluster(ssd=2 * GB)
    view.workers[worker.worker_id] = worker = replace(worker, init_seconds=3.0)
    views.hold(view, "n", MODEL, ssd=10 * GB)
    start(view, worker, FROM_SSD)
    seen = qualities(view)
    assert set(seen) == {(EstimateKind.STARTUP, Tier.SSD), (EstimateKind.LOAD, Tier.SSD), (EstimateKind.INIT, None)}
    assert seen[EstimateKind.STARTUP, Tier.SSD].median_error == pytest.approx(0.5), "5 s were 10 s"
    assert seen[EstimateKind.LOAD, Tier.SSD].median_error == pytest.approx(0.5)
    assert seen[EstimateKind.INIT, None].median_error == pytest.approx(0.5), "3 s were 2 s"


def test_a_startup_that_outlasts_its_load_is_compared_as_a_whole() -> None:
    """Ready after 2 s and loaded after 10: both the estimate and the outcome end with the last chunk."""
    view, (worker, _) = cluster(ssd=GB)
    views.hold(view, "n", MODEL, ssd=10 * GB)
    started = start(view, worker, FROM_SSD)
    assert (started.estimated_seconds, started.startup_seconds) == (pytest.approx(10), 10.0)
    assert qualities(view)[EstimateKind.STARTUP, Tier.SSD].p90_error == pytest.approx(0)


def test_what_a_start_takes_besides_is_learned() -> None:
    """Ready 2.7 s after the decision: 0.3 until the worker was asked, 0.4 to open the checkpoint, 2 to build."""
    view, (worker, _) = cluster(dram=10 * GB)
    views.hold(view, "n", MODEL, dram=10 * GB)
    held = LoadReport((TierTraffic(Tier.DRAM, 10 * GB, 0.0),), 0.1, 2.0, 2.4, complete=True)
    one = Instance("m-1", "m", LLAMA.digest, worker.worker_id, InstanceState.STARTING, started_at=5.0)
    view.put_instance(one, 5.0)
    view.put_instance(replace(one, state=InstanceState.READY, ready_at=7.7, report=held), 7.7)
    expected = foreseen(view, worker)
    assert (expected.dispatch_seconds, expected.seconds) == (pytest.approx(0.7), pytest.approx(2.7))


def test_starting_what_is_parked_takes_as_long_whatever_the_model_is() -> None:
    """Ready 30 ms after the decision, of which the worker took 10."""
    view, (worker, _) = cluster()
    parked = LoadReport((TierTraffic(Tier.GPU, 10 * GB, 0.01),), 0.01, 0.0, 0.01, complete=True)
    one = Instance("m-1", "m", LLAMA.digest, worker.worker_id, InstanceState.STARTING, started_at=5.0, source=Tier.GPU)
    view.put_instance(one, 5.0)
    view.put_instance(replace(one, state=InstanceState.READY, ready_at=5.03, report=parked), 5.03)
    other = Model("o", replace(LLAMA, digest="blake3:o"))
    view.models["o"] = other
    view.apply_report(WorkerReport(worker.worker_id, parked=(ParkedCheckpoint("blake3:o", GB),)), 6.0)
    expected = foreseen(view, worker, other)
    assert (expected.source, expected.seconds) == (Tier.GPU, pytest.approx(0.03))


def test_building_takes_longer_while_weights_are_read() -> None:
    """Each is expected to take as long as the other until it was seen."""
    view, (worker, _) = cluster(ssd=2 * GB, dram=10 * GB)
    views.hold(view, "n", MODEL, ssd=10 * GB)
    start(view, worker, FROM_SSD)
    views.hold(view, "n", MODEL, dram=10 * GB)
    assert foreseen(view, worker).init_seconds == 2.0
    held = LoadReport((TierTraffic(Tier.DRAM, 10 * GB, 0.0),), 0.1, 1.0, 1.0, complete=True)
    start(view, worker, held, name="m-2")
    assert foreseen(view, worker).init_seconds == 1.0
    views.hold(view, "n", MODEL, ssd=10 * GB)
    assert foreseen(view, worker).init_seconds == 2.0


def test_the_planner_says_when_the_last_chunk_was_there() -> None:
    planner = views.planner()
    planner.view.models["m"] = MODEL
    views.add_node(planner.view, views.node("n"))
    one = Instance("m-1", "m", LLAMA.digest, "n/w0", InstanceState.STARTING, started_at=1.0)
    planner.view.put_instance(one, 1.0)
    planner.outcomes.started("m-1", LoadReport(init_seconds=2.0, total_seconds=2.5), 4.0)
    told = ReportedInstance("m-1", loaded=replace(FROM_SSD, total_seconds=10.5))
    planner.view.apply_report(WorkerReport("n/w0", (told,)), 12.2)
    (loaded,) = planner.outcomes.loaded("n/w0", 12.2)
    assert (loaded.loaded_at, loaded.startup_seconds) == (12.0, 11.0), "the decision was half a second before"


def test_only_a_complete_report_has_a_startup_time() -> None:
    one = Instance("m-1", "m", LLAMA.digest, "n/w0", InstanceState.READY, started_at=1.0, ready_at=4.0)
    assert one.startup_seconds is None
    assert replace(one, report=LoadReport(total_seconds=2.0)).startup_seconds is None
    assert replace(one, report=LoadReport(total_seconds=2.0, complete=True)).startup_seconds == 3.0
    assert replace(one, report=LoadReport(total_seconds=9.0, complete=True)).startup_seconds == 9.0


def test_a_checkpoint_never_built_takes_what_its_family_does_by_size() -> None:
    view, (worker, _) = cluster(dram=10 * GB)
    view.workers[worker.worker_id] = worker = replace(worker, init_seconds=0.1)
    for billions in (1, 3, 5):
        sized = Model(f"m{billions}", replace(LLAMA, digest=f"blake3:{billions}", parameter_count=billions * 10**9))
        view.models[sized.name] = sized
        report = replace(FROM_SSD, init_seconds=0.4 * billions + 0.2)
        start(view, worker, report, sized, name=f"{sized.name}-1")
    larger = Model("m7", replace(LLAMA, digest="blake3:7", parameter_count=7 * 10**9))
    assert foreseen(view, worker, larger).init_seconds == pytest.approx(3.0, rel=0.1)
    stranger = Model("o", replace(larger.checkpoint, digest="blake3:o", architecture="OPTForCausalLM"))
    assert foreseen(view, worker, stranger).init_seconds == 0.1, "as long as the worker's own small model"


def test_kinds_of_device_are_told_apart() -> None:
    view, (worker, other) = cluster()
    start(view, worker, FROM_SSD)
    view.workers[other.worker_id] = other = replace(other, device="cuda:1")
    assert foreseen(view, worker).init_seconds == 2.0
    assert foreseen(view, other).init_seconds == 0.5


def test_a_load_from_dram_alone_tells_how_fast_copies_to_a_device_are() -> None:
    view, (worker, _) = cluster(device="cuda:0", dram=10 * GB)
    views.hold(view, "n", MODEL, dram=10 * GB)
    assert foreseen(view, worker).load_seconds == pytest.approx(1)
    copied = LoadReport((TierTraffic(Tier.DRAM, 10 * GB, 0.0),), 0.0, 0.5, 2.0, complete=True)
    start(view, worker, copied)
    assert foreseen(view, worker).load_seconds == pytest.approx(2)
    hidden = replace(copied, init_seconds=9.0, total_seconds=9.0)
    start(view, worker, hidden, name="m-2")
    assert foreseen(view, worker).load_seconds == pytest.approx(2), "building the model took longer than the copy"


def test_migrations_teach_seconds_per_token() -> None:
    view, (worker, other) = cluster()
    source = views.put(view, "m-1", MODEL, worker.worker_id)
    assert migration_seconds(view, source, other, 1000) == pytest.approx(1.05)
    for tokens in (500, 4000, 1500, 3000):
        view.experience.hear_migration(source, other, 2, tokens, 0.0002 * tokens + 0.1)
    assert migration_seconds(view, source, other, 2000) == pytest.approx(0.5, rel=0.1)
    elsewhere = replace(other, device="cuda:0")
    assert migration_seconds(view, source, elsewhere, 1000) == pytest.approx(1.05)


def test_what_workers_tell_of_their_generations_says_how_long_they_take_to_move() -> None:
    """One has 3,000 tokens, one is not told of yet, and one has ended since the report."""
    view, (worker, other) = cluster()
    source = views.put(view, "m-1", MODEL, worker.worker_id)
    for name in ("g1", "g2", "g3"):
        view.grants.grant(name, source.instance_id, 0.0)
    told = ReportedInstance("m-1", frozenset({"g1", "g3"}), tokens={"g1": 3000, "g3": 500})
    view.apply_report(WorkerReport(worker.worker_id, (told,)), 1.0)
    view.grants.release("g3", 2.0)
    assert generation_tokens(view, source) == 3000 + 1024
    assert migration_seconds(view, source, other) == migration_seconds(view, source, other, 3000 + 1024)


def test_generations_that_nobody_has_told_of_are_expected_to_have_as_many_tokens_as_those_that_moved() -> None:
    view, (worker, other) = cluster()
    source = views.put(view, "m-1", MODEL, worker.worker_id)
    assert migration_seconds(view, source, other) == pytest.approx(0.05), "it runs nothing"
    for name in ("g1", "g2"):
        view.grants.grant(name, source.instance_id, 0.0)
    assert migration_seconds(view, source, other) == pytest.approx(0.05 + 2 * 1.024)
    view.experience.hear_migration(source, other, 2, 600, 0.65)
    assert migration_seconds(view, source, other) == migration_seconds(view, source, other, 600)

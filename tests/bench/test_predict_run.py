"""A tiny run of `kindling bench predict`, and its arithmetic."""

import tempfile
from pathlib import Path

import orjson
import pytest

from kindling.bench.predict.bench_cluster import Node
from kindling.bench.predict.calibrate import Calibration
from kindling.bench.predict.command import run
from kindling.bench.predict.foretell import foretell
from kindling.bench.predict.goals import GOALS, ratios
from kindling.bench.predict.options import SMOKE, PredictOptions
from kindling.bench.predict.profile import Profile, starts_by_tier, startup_errors
from kindling.bench.predict.results import Replay, Results, Startups
from kindling.bench.predict.run import draw
from kindling.bench.predict.session import Answer
from kindling.cli.bench import slow_node
from kindling.platform.errors import InvalidArgumentError
from kindling.scheduler.domain.values import ModelSettings, Tier
from kindling.simulate.experiment import Setup
from kindling.simulate.measured import read_measured
from kindling.simulate.model_profiles import ModelProfile
from kindling.simulate.node_profiles import local_machine
from kindling.simulate.workload import Arrival
from kindling.v1 import checkpoint_pb2, cluster_pb2

CALIBRATION = Calibration(
    0.01,
    prefill_tokens_per_second=1000.0,
    seconds_per_token=0.01,
    seconds_per_token_beside=0.001,
    parked_seconds=0.05,
)
PROFILE = Profile({Tier.SSD: 1e7, Tier.REMOTE: 1e6}, init_seconds=0.1, calibration=CALIBRATION)
SIZE = 10**7


def results(
    real: tuple[float, ...], simulated: tuple[float, ...], errors: dict[Tier, list[float]] | None = None
) -> Results:
    setup = PROFILE.setup(Node(2, SIZE, 10**7), SIZE, SMOKE)
    replay = Replay(1, Startups(real, {}), Startups(simulated, {}), PROFILE, "by hand", 1.0, errors or {}, setup)
    return Results((replay,))


def test_errors_are_relative_to_what_was_measured() -> None:
    found = ratios(results((1.0, 3.0), (1.0, 2.0)))
    assert found["mean_error"] == pytest.approx(0.25)
    assert found["p99_error"] == pytest.approx((2.98 - 1.99) / 2.98)
    assert [goal.reached(found[goal.key]) for goal in GOALS] == [False, False, None]
    assert isinstance(ratios(results((0.0,), (1.0,)))["mean_error"], str)


def test_estimates_are_counted_by_tier_and_all_together() -> None:
    found = ratios(results((1.0,), (1.0,), {Tier.GPU: [0.3, -0.4, 0.5], Tier.SSD: [0.01, -0.02]}))
    assert found["estimate_error_median_parked"] == 0.4
    assert found["estimate_error_median_ssd"] == pytest.approx(0.015)
    assert found["estimate_error_median"] == 0.3
    assert "estimate_error_median_dram" not in found


def test_seeds_count_by_their_requests() -> None:
    few, many = results((1.0,), (2.0,), {Tier.SSD: [0.5]}), results((3.0,) * 3, (2.0,) * 3, {Tier.SSD: [0.1, 0.1]})
    pooled = Results(few.replays + many.replays)
    assert (pooled.real.mean, pooled.simulated.mean) == (2.5, 2.0)
    assert ratios(pooled)["mean_error"] == pytest.approx(0.2)
    assert ratios(pooled)["estimate_error_median"] == 0.1


def test_the_errors_of_what_came_before_are_left_out() -> None:
    kind, tier = cluster_pb2.ESTIMATE_KIND_STARTUP, {"from": checkpoint_pb2.TIER_SSD}
    everywhere = cluster_pb2.EstimateQuality(kind=kind, errors=[0.5, -0.25], **tier)
    node = cluster_pb2.EstimateQuality(kind=kind, node_id="n", count=2, **tier)
    before = cluster_pb2.EstimateQuality(kind=kind, errors=[0.5], **tier)
    known, now = (_status([one]) for one in (before, everywhere))
    assert startup_errors(_status([everywhere, node]), starts_by_tier(known)) == {Tier.SSD: [-0.25]}
    assert startup_errors(now) == {Tier.SSD: [0.5, -0.25]}


def _status(qualities: list[cluster_pb2.EstimateQuality]) -> cluster_pb2.GetClusterStatusResponse:
    return cluster_pb2.GetClusterStatusResponse(estimates=cluster_pb2.Estimates(qualities=qualities))


def test_startup_is_what_a_running_instance_would_not_have_taken() -> None:
    answer = Answer(Arrival(0.0, "a", 100, 11), first_token_seconds=1.11, last_token_seconds=1.21)
    assert CALIBRATION.startup_seconds(answer) == pytest.approx(1.0)
    assert answer.seconds_per_token == pytest.approx(0.01)


def test_what_came_before_is_not_counted_but_felt() -> None:
    links = {Tier.SSD: 1e7, Tier.REMOTE: 1e6}
    machine = local_machine(
        links, workers=1, dram_pool_bytes=SIZE, ssd_bytes=10**12, init_seconds=0.1, parked_seconds=0.05
    )
    model = ModelProfile("m", SIZE, 4, 1000.0, 0.01, 1)
    setup = Setup(machine, 1, model, ModelSettings(keep_alive_seconds=1.0))
    before, asked = [Arrival(0.0, "a", 4, 10)], [Arrival(10.0, "a", 4, 10), Arrival(20.0, "b", 4, 10)]
    parked, loaded = foretell(before, asked, setup).seconds
    assert parked == pytest.approx(0.05)
    assert loaded == pytest.approx(1.0, rel=0.01)
    starts = foretell(before, asked, setup).starts_by_tier
    assert (starts[Tier.GPU], starts[Tier.SSD]) == (1, 1)


def test_a_workload_without_requests_is_refused() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        draw(PredictOptions(rate=1e-9), seed=1)
    assert caught.value.reason == "NO_REQUESTS"


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_tiny_run_compares_and_cleans_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    run(slow_node, SMOKE, tmp_path / "figures.json")
    document = orjson.loads((tmp_path / "figures.json").read_bytes())
    assert document["ratios"].keys() >= {"mean_error", "p99_error", "estimate_error_median"} == document["goals"].keys()
    real, simulated = document["real"], document["simulated"]
    requests = len(draw(SMOKE, seed=1).arrivals)
    assert len(real["startup_seconds"]) == len(simulated["startup_seconds"]) == requests
    assert 0 < sum(simulated["starts_by_tier"].values()) <= requests
    assert 0 < sum(real["starts_by_tier"].values()) <= requests
    (seed,) = document["seeds"]
    assert seed["profile"]["links"]["SSD"] > 0
    node, model = read_measured(tmp_path / "figures.json")
    assert (node.devices, node.computes_on_pool, model.name) == (SMOKE.workers, True, "bench")
    assert sum(map(len, seed["estimate_errors"].values())) == sum(real["starts_by_tier"].values())
    assert "Goals" in capsys.readouterr().out
    assert list(place.glob("kindling-bench-*")) == []

"""The benchmark's own arithmetic: medians, rates, ratios, goals, the shapes of its checkpoints."""

import math
from pathlib import Path

import orjson
import pytest

from kindling.bench.load.chart import draw
from kindling.bench.load.goals import GOALS, ratios
from kindling.bench.load.options import LoadOptions
from kindling.bench.load.report import as_json
from kindling.bench.load.results import Results
from kindling.bench.load.rows import DRAM_TOUCHED, DRAM_VIEWS, DRAM_VIEWS_EIGHTH, ROWS, SSD, Kind, State
from kindling.bench.load.sample import shape_of_size

GB = 10**9


def measured(**seconds: list[float]) -> Results:
    results = Results()
    for key, samples in seconds.items():
        for one in samples:
            results.add(key, one, GB)
    return results


def test_rate_is_that_of_the_median_round() -> None:
    results = measured(kindling_ssd=[0.5, 9.0, 0.4])
    assert results.median_seconds(SSD) == 0.5
    assert results.rate(SSD) == 2 * GB
    assert results.rate("memcpy") is None


def test_noise_is_the_spread_over_the_median() -> None:
    middle, worst = measured(a=[1.0, 1.1, 1.2], b=[1.0, 2.0, 3.0], c=[5.0]).noise()
    assert worst == 1.0
    assert middle == pytest.approx((0.2 / 1.1 + 1.0) / 2)
    assert Results().noise() == (0.0, 0.0)


def test_floors_and_peers_count_by_their_best_median() -> None:
    results = measured(
        kindling_ssd=[0.5],
        direct_1x16MiB=[0.5],
        fio_psync=[0.4],
        memcpy=[0.01],
        torch_load_cold=[1.0],
        tensorizer_cold=[2.0],
        torch_load_warm=[0.1],
        runai_dropped_cold=[0.2],
    )
    found = ratios(results)
    assert found["ssd_over_raw"] == pytest.approx(0.8)  # memcpy is no floor of a disk
    assert found["ssd_over_best_peer"] == pytest.approx(2.0)  # neither warm loads nor tensors thrown away count


def test_hits_are_told_in_milliseconds_and_beside_safetensors() -> None:
    results = measured(safetensors_load_file_warm=[0.09], safetensors_safe_open_warm=[0.06])
    for key, seconds in ((DRAM_VIEWS, 0.006), (DRAM_TOUCHED, 0.02), (DRAM_VIEWS_EIGHTH, 0.004)):
        results.add(key, seconds, GB)
    found = ratios(results)
    assert found["dram_hit_ms"] == pytest.approx(6.0)
    assert found["dram_hit_touched_ms"] == pytest.approx(20.0)
    assert found["dram_hit_growth"] == pytest.approx(1.5)
    assert found["safetensors_warm_over_dram_hit"] == pytest.approx(3.0)


def test_what_was_not_measured_has_a_reason_and_no_number() -> None:
    results = Results()
    results.fail("obstore", "the server is gone")
    found = ratios(results)
    assert {goal.key for goal in GOALS} <= found.keys()
    assert all(isinstance(ratio, str) for ratio in found.values())
    assert found["remote_over_raw"] == "not measured: the server is gone"
    assert found["cuda_ssd_over_link"] == "not yet run on a GPU"
    assert all(goal.reached(found[goal.key]) is None for goal in GOALS)


@pytest.mark.parametrize(("key", "good", "bad"), [("ssd_over_raw", 0.95, 0.94), ("dram_hit_ms", 8.0, 8.1)])
def test_goals_include_their_limits(key: str, good: float, bad: float) -> None:
    (goal,) = (goal for goal in GOALS if goal.key == key)
    assert goal.reached(good) is True
    assert goal.reached(bad) is False


def test_rows_have_keys_of_their_own() -> None:
    assert len({row.key for row in ROWS}) == len(ROWS)
    assert {row.kind for row in ROWS} == set(Kind)


@pytest.mark.parametrize("mebibytes", [64, 128, 512, 1024, 2048, 4096])
def test_checkpoints_have_the_size_that_was_asked_for(mebibytes: int) -> None:
    shape = shape_of_size(mebibytes << 20)
    size = 2 * sum(math.prod(dimensions) for dimensions in shape.tensors.values())
    assert size == pytest.approx(mebibytes << 20, rel=0.05)
    assert len(shape.tensors) == 291
    assert shape.hidden % 64 == 0 == shape.hidden // 64 % (shape.kv // 64)


def test_json_and_picture_say_what_was_measured(tmp_path: Path) -> None:
    results = measured(kindling_ssd=[0.5, 0.6], direct_1x16MiB=[0.4], torch_load_warm=[1.0])
    document = orjson.loads(as_json(results, LoadOptions(GB, 2, tmp_path)))
    assert set(document) >= {"ratios", "rows", "machine", "notes", "goals"}
    assert {row["key"] for row in document["rows"]} == {SSD, "direct_1x16MiB", "torch_load_warm"}
    assert document["goals"]["ssd_over_raw"] == {"goal": "≥ 0.95", "reached": False}
    assert [row["state"] for row in document["rows"]].count(State.COLD) == 2
    draw(results, tmp_path / "chart.png")
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")

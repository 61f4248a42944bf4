"""The placement benchmark: its arithmetic, and a run in a tiny cluster."""

import random
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from kindling.bench.place.cluster import build
from kindling.bench.place.drive import Driver
from kindling.bench.place.goals import goals, growth, ratios
from kindling.bench.place.options import PlaceOptions, Size
from kindling.bench.place.results import Kind, Sample, percentile
from kindling.cli.bench import app
from kindling.platform.errors import InvalidArgumentError

TINY = Size(nodes=8, workers_per_node=2, models=80, residency=200)


def sample(workers: int, warm: float, start: float) -> Sample:
    made = Sample(Size(workers, 1, 10, 10))
    for seconds in (warm, warm, 9.0):
        made.add(Kind.WARM, seconds)
    made.add(Kind.START, start)
    made.add(Kind.REPORT, 10.0)
    return made


def test_growth_is_by_doubling_and_the_worse_of_warm_and_start() -> None:
    samples = [sample(10, 1.0, 1.0), sample(20, 7.0, 7.0), sample(40, 4.0, 1.0)]
    assert growth(samples, Kind.WARM) == pytest.approx(2.0)
    assert growth(samples, Kind.START) == pytest.approx(1.0)
    found = ratios(samples)
    assert found["growth_per_doubling"] == pytest.approx(2.0)
    assert found["decisions_per_second"] == pytest.approx(4 / (4 + 4 + 9 + 1 + 10))
    assert found["p99_ms"] == pytest.approx(9000)
    assert isinstance(growth(samples, Kind.EVICT), str)


def test_cost_may_grow_as_the_logarithm_does() -> None:
    by_key = {goal.key: goal for goal in goals([sample(2000, 1, 1), sample(4000, 1, 1), sample(8000, 1, 1)])}
    assert by_key["growth_per_doubling"].limit == 1.087
    assert by_key["p99_ms"].reached(5.1) is False


def test_percentiles() -> None:
    assert percentile([1.0], 0.99) == 1.0
    assert percentile([float(i) for i in range(200)], 0.99) == 198.0


def test_sizes_are_halved_twice() -> None:
    options = PlaceOptions(steps=400)
    assert [size.workers for size in options.sizes()] == [2000, 4000, 8000]
    assert [options.steps_for(size) for size in options.sizes()] == [100, 200, 400]


@pytest.mark.parametrize(
    ("nodes", "workers", "models", "enough"),
    [(4, 1, 100, False), (4, 2, 11, False), (8, 2, 20, True), (4, 2, 12, True)],
)
def test_a_cluster_too_small_to_halve_twice_is_refused(nodes: int, workers: int, models: int, enough: bool) -> None:
    options = PlaceOptions(Size(nodes, workers, models, residency=0))
    if enough:
        assert options.sizes()[-1] == options.size
        return
    with pytest.raises(InvalidArgumentError, match="give more nodes, workers or models"):
        options.sizes()


def test_every_kind_of_event_comes_and_the_view_holds_together() -> None:
    dice, made = random.Random(3), Sample(TINY)
    planner = build(TINY, dice)
    driver = Driver(planner, dice, made)
    driver.fill()
    driver.run(200)
    planner.view.check_integrity()
    assert Kind.START in made.seconds
    driver.fill_up()
    driver.run(400)
    planner.view.check_integrity()
    assert made.seconds.keys() >= set(Kind) - {Kind.WAIT}


def test_a_run_writes_its_ratios(tmp_path: Path) -> None:
    path = tmp_path / "place.json"
    arguments = ["place", "--nodes", "8", "--workers", "2", "--models", "80", "--steps", "300", "--json", str(path)]
    answer = CliRunner().invoke(app, arguments)
    assert answer.exit_code == 0, answer.output
    document = orjson.loads(path.read_bytes())
    assert {"decisions_per_second", "p99_ms", "growth_per_doubling"} <= document["ratios"].keys()
    assert [one["nodes"] for one in document["clusters"]] == [2, 4, 8]
    assert document["clusters"][-1]["residency"] == 800
    assert document["goals"].keys() == {"decisions_per_second", "p99_ms", "growth_per_doubling"}

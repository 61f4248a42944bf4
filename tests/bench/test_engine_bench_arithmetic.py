"""The engine benchmark's own arithmetic: medians, ratios, goals, prompts."""

import orjson
import pytest

from kindling.bench.engine.goals import GOALS, ratios
from kindling.bench.engine.options import EngineOptions
from kindling.bench.engine.report import as_json
from kindling.bench.engine.results import Results
from kindling.bench.engine.ways import PEERS, Way
from kindling.bench.engine.workload import LONGEST_PROMPT, SHORTEST_PROMPT, prompts_of


def measured(load: int = 32) -> Results:
    results = Results()
    rates = {
        Way.KINDLING: [590.0, 600.0, 900.0],
        Way.KINDLING_EXACT: [300.0],
        Way.ONE_BY_ONE: [50.0],
        Way.STATIC_BATCH: [400.0, 500.0, 450.0],
    }
    for way, samples in rates.items():
        for sample in samples:
            results.add(way, load, sample)
    return results


def test_ratios_compare_medians_with_the_best_peer() -> None:
    found = ratios(measured(), (32,))
    assert found["engine_over_best_32"] == pytest.approx(600 / 450)
    assert found["engine_over_serial_32"] == pytest.approx(12)
    assert found["exact_over_fast_32"] == pytest.approx(0.5)


def test_what_was_not_measured_has_no_number() -> None:
    found = ratios(Results(), (1, 8, 32))
    assert {goal.key for goal in GOALS} <= found.keys()
    assert all(isinstance(ratio, str) for ratio in found.values())


def test_a_way_that_fails_stays_in_the_report() -> None:
    results = measured()
    results.fail(Way.CONTINUOUS, "it does not run here")
    document = orjson.loads(as_json(results, EngineOptions(3, (32,))))
    assert document["failures"] == {"continuous_batching": "it does not run here"}
    assert document["goals"]["engine_over_best_32"] == {"goal": "≥ 1", "reached": True}
    assert "engine_over_best_1" not in document["goals"]
    rows = {row["key"]: row for row in document["rows"]}
    assert rows["kindling_32"]["median_tokens_per_second"] == 600
    assert rows["generate_static_batch_32"]["tokens_per_second"] == [400, 500, 450]


def test_noise_is_the_spread_over_the_median() -> None:
    middle, worst = measured().noise()
    assert worst == pytest.approx(310 / 600)
    assert middle == pytest.approx((310 / 600 + 100 / 450) / 2)
    assert Results().noise() == (0.0, 0.0)


@pytest.mark.parametrize("requests", [1, 8, 32])
def test_prompts_are_mixed_and_never_the_same_twice(requests: int) -> None:
    first, second = prompts_of(requests, 0), prompts_of(requests, 1)
    assert first == prompts_of(requests, 0) != second
    assert len(first) == requests
    lengths = [len(prompt) for prompt in first]
    assert sorted(lengths) == sorted(len(prompt) for prompt in second)
    assert min(lengths) >= SHORTEST_PROMPT
    assert max(lengths) <= LONGEST_PROMPT


def test_every_way_has_a_name() -> None:
    assert len({way.label for way in Way}) == len(Way)
    assert Way.KINDLING not in PEERS

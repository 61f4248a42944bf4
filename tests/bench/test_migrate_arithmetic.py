"""What `kindling bench migrate` makes of its samples."""

import orjson
import pytest

from kindling.bench.migrate.bystanders import slowdowns
from kindling.bench.migrate.divergence_child import same_tokens
from kindling.bench.migrate.divergence_rows import DivergenceRow, divergence_rows
from kindling.bench.migrate.failovers import gap_after
from kindling.bench.migrate.goals import p99, ratios
from kindling.bench.migrate.moves import migrated_of
from kindling.bench.migrate.options import SMOKE, MigrateOptions
from kindling.bench.migrate.report import as_json
from kindling.bench.migrate.results import Divergence, Failover, Migrated, Results, find_mismatch
from kindling.bench.migrate.stream import Answer, Move
from kindling.platform.errors import FailedPreconditionError
from kindling.v1 import generation_pb2, inference_pb2


def answer(*times: float, moves: tuple[Move, ...] = ()) -> Answer:
    return Answer((1, 2), 1, 0.0, list(range(len(times))), list(times), list(moves))


def migrated(sent_bytes: int) -> Migrated:
    return Migrated(64, 36, (96, 4), sent_bytes, 100_000, 1.0, 0.01)


def test_a_pause_lies_between_the_tokens_before_and_after_a_migration() -> None:
    resumed = Move(3, generation_pb2.MOVE_KIND_RESUMED, "b:1")
    moved, at_the_end = (Move(place, generation_pb2.MOVE_KIND_MIGRATED, "b:1") for place in (2, 5))
    seen = answer(1.0, 1.1, 1.5, 1.6, 1.7, moves=(moved, resumed, at_the_end))
    assert seen.migrations == [moved]
    assert seen.pause(moved) == pytest.approx(0.4)
    assert seen.gaps == pytest.approx([0.1, 0.4, 0.1, 0.1])


@pytest.mark.parametrize(
    ("found", "expected", "first", "positions"),
    [([1, 2, 3], [1, 2, 4], 2, 1), ([1, 3, 4], [1, 2, 3], 1, 2), ([1, 2, 2, 3], [1, 2, 3], 2, 2), ([1], [1, 2], 1, 1)],
    ids=["another", "lost", "repeated", "short"],
)
def test_every_position_that_differs_counts(found: list[int], expected: list[int], first: int, positions: int) -> None:
    mismatch = find_mismatch("part", found, expected)
    assert mismatch is not None
    assert (mismatch.first, mismatch.positions) == (first, positions)


def test_equal_answers_have_no_mismatch() -> None:
    assert find_mismatch("part", [1, 2, 3], [1, 2, 3]) is None


def test_slowdowns_are_gaps_over_the_median_of_those_before() -> None:
    seen = answer(0.0, 5.0, 5.1, 5.2, 5.3, 5.5, 5.65, 5.7)
    assert slowdowns(seen, began=5.3, ended=5.65, tokens_before=3) == pytest.approx([2.0, 1.5])
    assert slowdowns(seen, began=0.0, ended=5.65, tokens_before=3) == []


def test_the_gap_of_a_failover_is_the_longest_after_the_kill() -> None:
    position, gap = gap_after(answer(0.0, 2.0, 2.1, 2.2, 3.0, 3.1), 2.15)
    assert position == 4
    assert gap == pytest.approx(0.8)


def test_p99_is_a_sample() -> None:
    assert p99([float(number) for number in range(100)]) == 98.0
    assert p99([1.0, 7.0]) == 7.0


def test_the_worst_samples_make_the_ratios() -> None:
    results = Results(
        load_migrated=[migrated(100), migrated(300)],
        load_pauses=[0.05] * 99 + [0.2, 0.3],
        load_gaps=[0.1] * 1000,
        slowdowns=[1.0, 1.04, 9.0],
        busy_slowdowns=[1.0, 1.3, 1.3],
        failovers=[Failover(0.5, 0.4), Failover(0.7, 0.4)],
        memory_before={"a": 100, "b": 100},
        memory_after={"a": 101, "b": 101},
        divergences=[
            *(Divergence(dtype, True, None) for dtype in ("bfloat16", "bfloat16", "bfloat16", "float32")),
            Divergence("bfloat16", False, 5),
        ],
    )
    results.compare("part", answer(1.0, 2.0), answer(1.0, 2.0))
    assert ratios(results) == {
        "pause_p99_over_median_gap": pytest.approx(2.0),
        "tokens_lost_or_repeated": 0.0,
        "bytes_over_kv": 0.003,
        "bystander_slowdown": pytest.approx(0.04),
        "bystander_slowdown_beyond_other_work": pytest.approx(-0.2),
        "failover_detection_seconds": pytest.approx(0.3),
        "memory_growth": pytest.approx(1.01),
        "divergence_rate_bf16": 0.25,
        "divergence_rate_fp32": 0.0,
    }


def test_what_was_not_measured_says_why() -> None:
    results = Results()
    results.fail("failovers", "STREAM_ENDED: too soon")
    assert set(ratios(results).values()) == {"not measured: STREAM_ENDED: too soon"}
    document = orjson.loads(as_json(results, SMOKE))
    assert not any(goal["reached"] for goal in document["goals"].values())


def test_the_kv_cache_is_that_of_the_prompt_and_what_was_emitted() -> None:
    shape = MigrateOptions().shape
    moved = inference_pb2.GenerationMoved(position=36, round_tokens=[96, 4], sent_bytes=500)
    (one,) = migrated_of([inference_pb2.MigrateInstanceResponse(moved=moved)], shape, 64)
    assert one.kv_bytes == 2 * 8 * 2 * 64 * 4 * 100
    stayed = inference_pb2.MigrateInstanceResponse(stayed=inference_pb2.GenerationStayed(reason="TARGET_SILENT"))
    with pytest.raises(FailedPreconditionError, match="TARGET_SILENT"):
        list(migrated_of([stayed], shape, 64))


def test_divergence_is_counted_by_type_and_way_and_measured_by_the_tokens_before_it() -> None:
    found = [Divergence("bfloat16", True, tokens) for tokens in (4, None, 10)]
    rows = list(divergence_rows([*found, Divergence("float32", False, None)]))
    assert rows == [
        DivergenceRow("bfloat16", "greedy", 3, 2, 7.0),
        DivergenceRow("float32", "drawn", 1, 0, None),
    ]
    assert rows[0].rate == pytest.approx(2 / 3)


@pytest.mark.parametrize(("anew", "same"), [([1, 2, 3], None), ([9, 2, 3], 0), ([1, 2, 9], 2)])
def test_tokens_are_the_same_until_the_first_that_differs(anew: list[int], same: int | None) -> None:
    assert same_tokens([1, 2, 3], anew) == same

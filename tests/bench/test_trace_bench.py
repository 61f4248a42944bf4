"""A tiny run of `kindling bench trace` with real workers, and what its ratio makes of pairs."""

from pathlib import Path

import orjson
import pytest

from kindling.bench.model import Shape
from kindling.bench.trace.command import run
from kindling.bench.trace.options import TraceOptions
from kindling.bench.trace.report import ratios
from kindling.bench.trace.results import Pair, Pass
from kindling.cli.bench import one_worker

TINY = Shape(layers=1, heads=1, kv_heads=1, context_length=256)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_tiny_run_measures_both_workers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = TraceOptions(starts=1, rounds=2, streams=2, new_tokens=4, shape=TINY)
    run(one_worker, options, tmp_path / "figures.json")
    document = orjson.loads((tmp_path / "figures.json").read_bytes())
    assert len(document["pairs"]) == 2
    assert all(pair[side]["step_seconds"] > 0 for pair in document["pairs"] for side in ("plain", "traced"))
    assert document["goals"]["tracing_over_step"]["goal"] == "≤ 0.02"
    assert "decode step" in capsys.readouterr().out


def test_one_disturbed_pass_changes_nothing() -> None:
    usual = Pair(Pass(0.100, 0.200), Pass(0.101, 0.206))
    disturbed = Pair(Pass(0.100, 0.200), Pass(0.500, 0.900))
    found = ratios([usual, disturbed, usual])
    assert found == {"tracing_over_step": pytest.approx(0.01), "tracing_over_step_cpu": pytest.approx(0.03)}

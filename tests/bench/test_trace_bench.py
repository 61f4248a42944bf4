"""The benchmark of tracing: its arithmetic, what it measures with, and a run."""

import os
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from kindling.bench.trace import TraceSamples, processor_seconds
from kindling.cli.bench import app


def test_the_median_round_is_put_beside_a_step() -> None:
    samples = TraceSamples(plain_us=[100, 50, 100], traced_us=[110, 80, 500], step_seconds=0.003)
    assert samples.ratios == pytest.approx({"tracing_us_per_step": 30, "tracing_over_step": 0.01})


def test_processor_time_counts_what_was_computed() -> None:
    before = processor_seconds(os.getpid())
    sum(range(1_000_000))
    assert 0 < processor_seconds(os.getpid()) - before < 10


def test_a_run(tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    result = CliRunner().invoke(app, ["trace", "--rounds", "1", "--tokens", "100", "--json", str(found)])
    assert result.exit_code in (0, 1), result.output  # whether the goal is reached is for a quiet machine to say
    figures = orjson.loads(found.read_bytes())
    assert set(figures["ratios"]) == {"tracing_over_step", "tracing_us_per_step"}
    assert figures["samples"]["plain_us"][0] > 0
    assert figures["samples"]["traced_us"][0] > 0

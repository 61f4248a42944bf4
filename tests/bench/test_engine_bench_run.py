"""A tiny run of `kindling bench engine`: real processes, the real engine, transformers' real ways."""

from pathlib import Path

import orjson
import pytest

from kindling.bench.engine.command import run
from kindling.bench.engine.options import EngineOptions
from kindling.bench.engine.ways import Way


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_tiny_run_measures_every_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(EngineOptions(rounds=1, loads=(2,), new_tokens=4), tmp_path / "figures.json")
    document = orjson.loads((tmp_path / "figures.json").read_bytes())
    assert document["failures"] == {}
    assert {row["key"] for row in document["rows"]} == {f"{way}_2" for way in Way}
    assert all(row["median_tokens_per_second"] > 0 for row in document["rows"])
    assert set(document["ratios"]) == {"engine_over_best_2", "engine_over_serial_2", "exact_over_fast_2"}
    assert "Tokens per second" in capsys.readouterr().out

"""A tiny run of `kindling bench migrate`: a real cluster, real moves, a real kill, everything given back."""

import tempfile
from pathlib import Path

import orjson
import pytest

from kindling.bench.migrate.command import run
from kindling.bench.migrate.options import SMOKE
from kindling.cli.bench import two_workers


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_tiny_run_moves_kills_and_cleans_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    status = run(two_workers, SMOKE, tmp_path / "figures.json", tmp_path / "picture.png")
    document = orjson.loads((tmp_path / "figures.json").read_bytes())
    assert (status, document["failures"], document["mismatches"]) == (0, {}, [])
    assert document["ratios"]["tokens_lost_or_repeated"] == 0
    assert document["compared_tokens"] > 100
    assert len(document["load"]) >= SMOKE.migrations
    assert [one["migrated"]["prompt_tokens"] for one in document["singles"]] == [16, 64]
    assert len(document["failovers"]) == 1
    assert [row["dtype"] for row in document["divergence"]] == ["bfloat16"] * 2 + ["float32"] * 2
    assert document["ratios"]["divergence_rate_fp32"] == 0
    assert 0.5 < document["ratios"]["memory_growth"] < 2
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert "Goals" in capsys.readouterr().out
    assert list(place.glob("kindling-bench-*")) == []

"""A tiny run of `kindling bench load`: real processes, real files, everything given back."""

from pathlib import Path

import orjson
import pytest

from kindling.bench.load.command import run
from kindling.bench.load.options import MIB, LoadOptions, Part
from kindling.storage.adapters.huge_pages import HugePages


@pytest.mark.slow
def test_a_tiny_run_measures_and_cleans_up(tmp_path: Path) -> None:
    free_before = HugePages().free_bytes()
    place = tmp_path / "place"
    parts = frozenset({Part.OURS, Part.FRESH, Part.FLOORS})
    run(LoadOptions(64 * MIB, 1, place, parts), tmp_path / "figures.json", None)
    document = orjson.loads((tmp_path / "figures.json").read_bytes())
    rows = {row["key"]: row for row in document["rows"]}
    assert {"kindling_ssd", "kindling_ssd_fresh", "kindling_dram", "direct_1x16MiB"} <= rows.keys()
    for name in ("kindling_ssd", "direct_1x16MiB"):
        assert 60 * MIB < rows[name]["bytes"] < 70 * MIB
    assert 0.05 < document["ratios"]["ssd_over_raw"] < 20
    assert document["ratios"]["dram_hit_touched_ms"] > document["ratios"]["dram_hit_ms"] > 0
    assert not place.exists()
    assert HugePages().free_bytes() == free_before

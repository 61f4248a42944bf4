"""Machines and models from a file."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from kindling.cli.main import app
from kindling.platform.errors import InvalidArgumentError, KindlingError
from kindling.scheduler.domain.values import Tier
from kindling.simulate.measured import measured_values, read_measured
from kindling.simulate.model_profiles import ModelProfile, model_profile
from kindling.simulate.node_profiles import NodeProfile, local_machine, node_profile

HERE = local_machine(
    {Tier.SSD: 2e9, Tier.REMOTE: 1e9}, workers=2, dram_pool_bytes=10**9, ssd_bytes=10**12, init_seconds=0.1
)
MODEL = ModelProfile("bench", 10**8, 4, 5000.0, 0.01, 512, prompt_tokens_beside=64, seconds_per_token_beside=0.001)
GPUS = node_profile("paper-a40")


@pytest.mark.parametrize(("node", "model"), [(HERE, MODEL), (GPUS, model_profile("opt-30b", GPUS.device_kind))])
def test_what_is_written_is_read_back(node: NodeProfile, model: ModelProfile, tmp_path: Path) -> None:
    assert read_measured(write(tmp_path, measured_values(node, model))) == (node, model)


def write(directory: Path, values: Any) -> Path:
    path = directory / "measured.json"
    path.write_text(json.dumps({"measured": values, "ratios": {}}))
    return path


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("node", "devices", 0),
        ("node", "dram_pool_bytes", "1GiB"),
        ("node", "bandwidth_bytes_per_second", {"SSD": 1.0}),
        ("node", "init_seconds", -1),
        ("model", "seconds_per_token", float("inf")),
        ("model", "tokens", 5),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(part: str, name: str, value: Any, tmp_path: Path) -> None:
    values: dict[str, Any] = {**measured_values(HERE, MODEL)}
    values[part] |= {name: value}
    with pytest.raises(InvalidArgumentError, match=f"measured.{part}.{name}"):
        read_measured(write(tmp_path, values))


@pytest.mark.parametrize("content", [None, "", "{}", "nonsense"])
def test_what_is_no_such_file_is_told(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "measured.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(KindlingError, match=r"`kindling bench predict --json` writes such a file"):
        read_measured(path)


def test_policies_are_compared_on_what_was_measured(tmp_path: Path) -> None:
    path, out = write(tmp_path, measured_values(HERE, MODEL)), tmp_path / "out.json"
    drawn = ["--cv", "1", "--rate", "1", "--duration", "60", "--lengths", "gsm8k", "--models", "6", "--nodes", "2"]
    arguments = ["simulate", *drawn, "--seeds", "1", "--measured", str(path), "--json", str(out)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "6 models of bench on 2 nodes" in result.stdout
    found = json.loads(out.read_bytes())
    assert {one["model"] for one in found["cells"]} == {"bench"}
    assert found["options"]["measured"] == str(path)


def test_a_machine_cannot_be_given_twice(tmp_path: Path) -> None:
    path = write(tmp_path, measured_values(HERE, MODEL))
    result = CliRunner().invoke(app, ["simulate", "--measured", str(path), "--node-profile", "h100-box"])
    assert (result.exit_code, "--node-profile" in result.stderr) == (2, True)

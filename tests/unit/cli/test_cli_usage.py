import re

import pytest
from typer.testing import CliRunner

from kindling.cli.main import app
from kindling.cli.ports import free_ports

runner = CliRunner()
COMMANDS = ["up", "down", "demo", "deploy", "models", "chat", "delete", "evict", "status", "version", "bench"]
MOVING = [["migrate", "m", "--to", "n/w"], ["drain", "n"], ["undrain", "n"]]


@pytest.fixture
def nobody_listens(monkeypatch):
    address = f"127.0.0.1:{free_ports(1)[0]}"
    monkeypatch.setenv("KINDLING_ADDRESS", address)
    return address


@pytest.fixture
def source(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    return str(tmp_path)


def test_help_names_every_command():
    result = runner.invoke(app, ["--help"])
    assert result.exit_code == 0
    assert all(
        re.search(rf"^\W*{name}\s", result.output, re.MULTILINE)
        for name in [*COMMANDS, *(words[0] for words in MOVING)]
    )


def test_version_is_said():
    result = runner.invoke(app, ["version"])
    assert (result.exit_code, result.output) == (0, "kindling 0.1.0\n")


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["models"],
        ["delete", "m", "--yes"],
        ["evict", "m", "--keep", "ssd"],
        ["chat", "m", "-m", "hi"],
        *MOVING,
    ],
)
def test_no_cluster_is_exit_3_and_says_how_to_start_one(nobody_listens, command):
    result = runner.invoke(app, command)
    assert result.exit_code == 3
    assert f"no cluster answers at {nobody_listens}; start one with `kindling up`" in result.stderr
    assert result.stdout == ""


def test_deploy_without_a_cluster_is_exit_3(nobody_listens, source):
    assert runner.invoke(app, ["deploy", "m", "--source", source]).exit_code == 3


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (["deploy", "a/b", "--source", "/"], "INVALID_MODEL_NAME"),
        (["deploy", "m", "--source", "/nonexistent"], "INVALID_SOURCE"),
        (["deploy", "m", "--source", "/", "--keep-alive", "soon"], "INVALID_DURATION"),
        (["deploy", "m", "--source", "SOURCE", "--keep-alive", "99999999999999999d"], "INVALID_DURATION"),
        (["tenant", "set", "", "--generations", "1"], "TENANT_INVALID"),
        (["tenant", "remove", ""], "TENANT_INVALID"),
        (["demo", "--source", "/nonexistent"], "INVALID_SOURCE"),
        (["up", "--dram-pool", "banana"], "INVALID_SIZE"),
        (["chat", "no such model"], "INVALID_MODEL_NAME"),
        (["migrate", "m", "--to", "n"], "INVALID_WORKER"),
        (["migrate", "m", "--to", "n/w", "--from", "n"], "INVALID_WORKER"),
        (["migrate", "a/b", "--to", "n/w"], "INVALID_MODEL_NAME"),
        (["drain", "n/w"], "INVALID_NODE"),
        (["undrain", "n/w"], "INVALID_NODE"),
    ],
)
def test_bad_values_are_exit_2_before_anything_is_tried(nobody_listens, source, command, reason):
    result = runner.invoke(app, [source if word == "SOURCE" else word for word in command])
    assert (result.exit_code, reason in result.stderr) == (2, True)


@pytest.mark.parametrize(
    "command",
    [
        ["up", "--nodes", "0"],
        ["up", "--http-port", "70000"],
        ["migrate", "m"],
        ["drain"],
        ["evict", "m"],
        ["evict", "m", "--keep", "moon"],
        ["bench", "load", "--dir", "/nonexistent"],
        ["bench", "place", "--steps", "1"],
        ["deploy", "m", "--source", "/", "--max-instances", "99999999999"],
        ["deploy", "m", "--source", "/", "--devices", "65"],
        ["chat", "m", "--seed", "99999999999999999999"],
        ["tenant", "set", "acme"],
        ["what"],
    ],
)
def test_wrong_usage_is_exit_2(command):
    assert runner.invoke(app, command).exit_code == 2


def test_a_benchmark_that_is_refused_leaves_nothing(tmp_path):
    result = runner.invoke(app, ["bench", "load", "--size", "0", "--dir", str(tmp_path)])
    assert (result.exit_code, list(tmp_path.iterdir())) == (2, [])


def test_delete_asks_and_no_means_no(nobody_listens):
    result = runner.invoke(app, ["delete", "m"], input="n\n")
    assert result.exit_code == 1
    assert "Delete model m" in result.stderr

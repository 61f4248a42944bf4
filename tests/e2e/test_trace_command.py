"""`kindling trace` shows what a request did in every process, with no collector."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from support import api
from support.checkpoints import make_checkpoint
from support.cluster import RunningCluster


@pytest.fixture(scope="module")
def answer(cluster: RunningCluster, tmp_path_factory: pytest.TempPathFactory) -> httpx.Response:
    """What a cold request got."""
    api.deploy(cluster.grpc_address, "watched", _checkpoint(tmp_path_factory))
    body = {"model": "watched", "prompt": "fox", "max_tokens": 4, "temperature": 0}
    answer = httpx.post(f"{cluster.http_url}/v1/completions", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer


def _checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that no other test has had loaded."""
    return make_checkpoint(tmp_path_factory.mktemp("watched") / "model", seed=77)


def trace(cluster: RunningCluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kindling.cli.main", "trace", *arguments, "--address", cluster.grpc_address]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env=os.environ | {"COLUMNS": "200"}
    )


def test_one_tree_over_all_services(cluster: RunningCluster, answer: httpx.Response, tmp_path: Path) -> None:
    picture = tmp_path / "trace.svg"
    shown = trace(cluster, answer.headers["x-request-id"], "--svg", str(picture))
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    for service in ("gateway", "scheduler scheduler-0", "worker node-0/worker-", "storage node-0"):
        assert any(service in line for line in lines), shown.stdout
    spans = [line for line in lines[3:] if line.strip()]
    assert [line for line in spans if not line.startswith(" ")] == [spans[0]]  # all but the request are part of it
    assert "checkpoint.load" in shown.stdout
    assert "still open" not in shown.stdout  # nothing of it lasts as long as the instance
    assert "<svg" in picture.read_text()


def test_an_answer_is_found_by_its_own_id(cluster: RunningCluster, answer: httpx.Response) -> None:
    shown = trace(cluster, answer.json()["id"])
    assert answer.headers["x-request-id"] in shown.stdout


def test_an_unknown_request_is_said_to_be_unknown(cluster: RunningCluster) -> None:
    shown = trace(cluster, "chatcmpl-never")
    assert shown.returncode == 1
    assert "TRACE_UNKNOWN" in shown.stderr


def test_a_picture_that_cannot_be_written(cluster: RunningCluster, answer: httpx.Response) -> None:
    shown = trace(cluster, answer.headers["x-request-id"], "--svg", "/nowhere/at/all.svg")
    assert shown.returncode == 2
    assert "FILE_NOT_WRITABLE" in shown.stderr

"""OpenAI's own Node client against the gateway of a cluster of real processes."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kindling.v1 import model_pb2
from support import api
from support.cluster import RunningCluster
from support.gateway_metrics import tokens_sent

PROJECT = Path(__file__).parent / "openai_node"
SECONDS = 120
LONG_TOKENS = 1500
MESSAGES = [{"role": "user", "content": "The quick brown fox"}]


@pytest.fixture(scope="module")
def models(cluster: RunningCluster, model_directory: Path) -> Iterator[list[str]]:
    api.deploy(cluster.grpc_address, "roomy", model_directory)
    one_and_one_waiting = model_pb2.ModelSettings(concurrency_target=1, max_instances=1, max_queued_requests=1)
    api.deploy(cluster.grpc_address, "crowded", model_directory, one_and_one_waiting)
    yield ["roomy", "crowded"]
    for name in ("roomy", "crowded"):
        api.delete(cluster.grpc_address, name)


@pytest.fixture(scope="module")
def said(cluster: RunningCluster, models: list[str]) -> dict[str, Any]:
    install = ["npm", "ci", "--ignore-scripts", "--silent", "--no-fund", "--no-audit"]
    subprocess.run(install, cwd=PROJECT, check=True, timeout=SECONDS)
    command = ["node", "calls.mjs", f"{cluster.http_url}/v1", *models]
    done = subprocess.run(command, check=False, cwd=PROJECT, capture_output=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr.decode()
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


@pytest.fixture(autouse=True)
def _named(record_property: Callable[[str, object], None]) -> None:
    record_property("client", "openai (Node)")


def test_models_are_listed(said: dict[str, Any], models: list[str]) -> None:
    assert set(models) <= set(said["models"])


def test_an_answer_is_the_same_whole_and_streamed_and_from_python(
    said: dict[str, Any], cluster: RunningCluster, models: list[str]
) -> None:
    with api.openai_client(cluster.http_url) as client:
        answer = client.chat.completions.create(model=models[0], messages=MESSAGES, temperature=0, max_tokens=24)
    text = answer.choices[0].message.content
    assert text
    assert said["chat"] == {"text": text, "reason": "length", "usage": said["chat"]["usage"]}
    assert said["chat"]["usage"]["completion_tokens"] == 24
    assert (said["streamed"]["text"], said["streamed"]["reason"]) == (text, "length")
    assert said["streamed"]["chunks"] > 2
    assert said["helperStreamed"]["text"] == text


def test_a_stream_that_is_left_and_a_call_that_is_aborted_are_cancelled(
    said: dict[str, Any], cluster: RunningCluster, models: list[str]
) -> None:
    assert said["left"] == {"chunks": 3, "aborted": True}
    assert said["aborted"]["kind"] == "APIUserAbortError"
    # Less than one of the two would have come to; the rest of the calls is far below what that leaves.
    assert tokens_sent(cluster.http_url, models[0]) < LONG_TOKENS


@pytest.mark.parametrize("call", ["missing", "missingModel"])
def test_a_missing_model_is_a_not_found_error(said: dict[str, Any], call: str) -> None:
    error = said[call]
    assert (error["kind"], error["status"], error["code"]) == ("NotFoundError", 404, "model_not_found")
    assert "'no-such-model'" in error["message"]


def test_a_bad_parameter_is_a_bad_request_error(said: dict[str, Any]) -> None:
    error = said["bad"]
    assert (error["kind"], error["status"], error["param"]) == ("BadRequestError", 400, "temperature")


def test_a_full_queue_is_a_rate_limit_error(said: dict[str, Any]) -> None:
    refused = said["crowded"]["refused"]
    assert (refused["kind"], refused["status"], refused["code"]) == ("RateLimitError", 429, "queue_full")
    assert sorted(said["crowded"]["others"]) == ["APIUserAbortError", "RateLimitError"]

"""A model that is to take several devices: placed as it should be, and refused by today's workers with what to do."""

import subprocess
import sys
from pathlib import Path

import openai
import pytest

from support import api
from support.checkpoints import make_checkpoint
from support.cluster import RunningCluster

SECONDS = 60


def deploy(cluster: RunningCluster, source: Path, devices: int) -> None:
    command = [sys.executable, "-m", "kindling.cli.main", "deploy", "wide", "--source", str(source)]
    command += ["--devices", str(devices), "--address", cluster.grpc_address]
    subprocess.run(command, check=True, capture_output=True, timeout=SECONDS)


def refused(cluster: RunningCluster) -> openai.APIStatusError:
    with api.openai_client(cluster.http_url) as client, pytest.raises(openai.APIStatusError) as told:
        client.completions.create(model="wide", prompt="Hello", max_tokens=2)
    return told.value


def test_today_a_model_on_several_devices_is_refused_with_what_to_do(cluster: RunningCluster, tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "model")
    deploy(cluster, source, 2)
    for _ in range(2):
        told = refused(cluster)
        assert (told.status_code, told.code) == (501, "tensor_parallel_not_supported")
        assert "deploy it again with --devices 1" in told.message
    assert [one for one in api.status(cluster.grpc_address).instances if one.model == "wide"] == []

    deploy(cluster, source, 3)
    told = refused(cluster)
    assert (told.status_code, told.code) == (409, "no_device_large_enough")
    assert "no node has 3 devices of a kind" in told.message

    deploy(cluster, source, 1)
    with api.openai_client(cluster.http_url) as client:
        assert client.completions.create(model="wide", prompt="Hello", max_tokens=2).usage.completion_tokens == 2
    api.delete(cluster.grpc_address, "wide")

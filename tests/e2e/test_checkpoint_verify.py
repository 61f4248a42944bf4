"""`kindling checkpoint verify` over a real cluster of two nodes, and on a directory."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kindling.checkpoint import pack
from kindling.cli.main import app
from kindling.platform.rpc.channel import open_channel
from kindling.v1 import (
    checkpoint_pb2,
    cluster_pb2,
    cluster_pb2_grpc,
    model_pb2,
    model_pb2_grpc,
    storage_pb2,
    storage_pb2_grpc,
)
from support import api
from support.checkpoints import make_checkpoint
from support.cluster import RunningCluster, cluster_options, running_cluster
from support.storage_checkpoint import flip_bit
from support.storage_node import open_checkpoint

runner = CliRunner()


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    with running_cluster(cluster_options(tmp_path_factory.mktemp("cluster"), nodes=2, schedulers=1)) as running:
        yield running


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("source") / "model", "llama", tied=False, sharded=False)


async def copy_to_every_node(address: str, name: str) -> str:
    """Have every node cache the model; return its digest."""
    async with open_channel(address) as channel:
        found = await model_pb2_grpc.ModelServiceStub(channel).GetModel(model_pb2.GetModelRequest(name=name))
        cluster = cluster_pb2_grpc.ClusterServiceStub(channel)
        status = await cluster.GetClusterStatus(cluster_pb2.GetClusterStatusRequest())
    digest: str = found.model.checkpoint.digest
    for node in status.nodes:
        async with open_channel(node.storage_address) as channel:
            storage = storage_pb2_grpc.StorageServiceStub(channel)
            async with open_checkpoint(storage, digest) as lease:
                await lease.loaded()
            await until_on_ssd(storage, digest)
    return digest


async def until_on_ssd(storage: storage_pb2_grpc.StorageServiceStub, digest: str) -> None:
    """Return once a copy is written: that ends some time after the load."""
    async with asyncio.timeout(10):
        while True:
            status = await storage.GetStorageStatus(storage_pb2.GetStorageStatusRequest())
            (ssd,) = (tier for tier in status.tiers if tier.tier == checkpoint_pb2.TIER_SSD)
            if any(one.digest == digest for one in ssd.checkpoints):
                return


def verify(what: str, *options: str) -> tuple[int, str, str]:
    result = runner.invoke(app, ["checkpoint", "verify", what, *options])
    return result.exit_code, result.stdout, " ".join(result.stderr.split())


def test_damage_on_a_node_is_found_and_repaired(two_nodes: RunningCluster, source: Path) -> None:
    address = ["--address", two_nodes.grpc_address]
    api.deploy(two_nodes.grpc_address, "m", source)
    digest = asyncio.run(copy_to_every_node(two_nodes.grpc_address, "m"))
    code, printed, _ = verify("m", *address)
    assert (code, printed.count("SSD: 1 chunks read, 0 bad"), printed.count("REMOTE: 1 chunks read, 0 bad")) == (
        0,
        2,
        1,
    )

    layout = two_nodes.cluster.options.data_dir
    copies = sorted(layout.glob(f"**/checkpoints/{digest.replace(':', '-')}/*.safetensors"))
    assert len(copies) == 2
    flip_bit(copies[1], 5000)
    code, printed, problems = verify("m", *address)
    assert code == 1
    assert f"bad: chunk 0: chunk 0 of {copies[1]} (at byte 0) does not match its checksum" in problems
    code, printed, problems = verify(digest, "--repair", *address)
    assert (code, "repaired: chunk 0" in problems) == (0, True)
    assert copies[0].read_bytes() == copies[1].read_bytes()
    assert verify("m", *address)[0] == 0


def test_a_model_that_nobody_knows_is_an_error(two_nodes: RunningCluster) -> None:
    code, _, problem = verify("nobody", "--address", two_nodes.grpc_address)
    assert (code, "MODEL_NOT_FOUND" in problem) == (1, True)


def test_a_directory_is_read_without_a_cluster(source: Path, tmp_path: Path) -> None:
    manifest = pack(source, tmp_path / "packed")
    directory = tmp_path / "packed" / manifest.digest.replace(":", "-")
    code, printed, _ = verify(str(directory))
    assert (code, printed) == (0, f"{directory} is intact\n")
    assert verify(str(directory), "--repair")[0] == 2
    flip_bit(directory / "partition-0.safetensors", 5000)
    (directory / "config.json").unlink()
    code, _, problems = verify(str(directory))
    assert code == 1
    assert f"chunk 0 of {directory / 'partition-0.safetensors'} does not match its checksum" in problems
    assert f"{directory / 'config.json'} is missing" in problems
    assert verify(str(tmp_path / "nothing" / "here"))[0] == 1

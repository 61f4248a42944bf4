"""A model that is called again and again is in DRAM when its next call comes, whatever took its place there."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kindling.cli.main import app
from kindling.cli.readiness import until
from kindling.platform.clock import SystemClock
from kindling.platform.rpc.channel import open_channel
from kindling.v1 import checkpoint_pb2, cluster_pb2, inference_pb2, storage_pb2, storage_pb2_grpc
from support import api
from support.checkpoints import make_checkpoint
from support.cluster import RunningCluster, cluster_options, running_cluster

PERIOD_SECONDS = 3.0
SETTINGS = {
    # A disk on which the model takes a third of a second, and chunks of which it has a dozen.
    "KINDLING_STORAGE_SSD_READ_LIMIT": "40MB",
    "KINDLING_STORAGE_CHUNK_BYTES": "1MiB",
    "KINDLING_SCHEDULER_KEEP_ALIVE_SECONDS": "0.1",
    "KINDLING_SCHEDULER_PREFETCH_HORIZON_SECONDS": "2.4",
    "KINDLING_SCHEDULER_PREFETCH_BANDWIDTH_SHARE": "1.0",
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    options = cluster_options(tmp_path_factory.mktemp("cluster"), schedulers=1, extra_env=tuple(SETTINGS.items()))
    with running_cluster(options) as running:
        yield running


def call(address: str) -> None:
    sampling = inference_pb2.SamplingParams(max_tokens=1)
    assert api.answer_of(api.stream(address, "m", [1, 2, 3], sampling)).token_ids


async def take_its_place(storage_address: str, digest: str) -> int:
    """Drop the model from DRAM, as another one's load would; not as an operator, whose evictions are heeded."""
    request = storage_pb2.EvictCheckpointRequest(digest=digest, keep=checkpoint_pb2.TIER_SSD)
    async with open_channel(storage_address) as channel:
        stub = storage_pb2_grpc.StorageServiceStub(channel)
        dropped = 0

        async def is_gone() -> bool:
            nonlocal dropped
            answer = await stub.EvictCheckpoint(request)
            dropped += answer.dropped_bytes
            return not answer.pinned_bytes

        await until(is_gone, SystemClock())  # its instance stops in a moment
    return dropped


async def prefetched(cluster: RunningCluster, enough_bytes: int) -> cluster_pb2.NodeStatus:
    """The node's status once so much was prefetched."""
    (node,) = api.status(cluster.grpc_address).nodes

    async def is_there() -> bool:
        nonlocal node
        (node,) = (await asyncio.to_thread(api.status, cluster.grpc_address)).nodes
        return node.prefetch.prefetched_bytes >= enough_bytes

    async with asyncio.timeout(2 * PERIOD_SECONDS):
        await until(is_there, SystemClock())
    return node


def test_what_is_called_periodically_is_in_dram_at_its_next_call(cluster: RunningCluster, tmp_path: Path) -> None:
    address = cluster.grpc_address
    source = make_checkpoint(tmp_path / "model", hidden_size=256, layers=4)
    checkpoint = api.deploy(address, "m", source).checkpoint
    assert checkpoint.chunk_count > 8
    (node,) = api.status(address).nodes
    call(address)  # a gateway's first call takes seconds
    began = time.monotonic()
    for number in (1, 2):
        time.sleep(max(0.0, began + number * PERIOD_SECONDS - time.monotonic()))  # the rhythm that is to be learned
        call(address)
    dropped = asyncio.run(take_its_place(node.storage_address, checkpoint.digest))
    assert dropped >= checkpoint.total_bytes
    # A few milliseconds' worth of it streams in while the model is built.
    node = asyncio.run(prefetched(cluster, int(0.8 * checkpoint.total_bytes)))
    assert (node.prefetch.hits, node.prefetch.wasted_bytes) == (0, 0)
    call(address)
    (node,) = api.status(address).nodes
    assert node.prefetch.hits == 1
    assert 0.8 * checkpoint.total_bytes <= node.prefetch.hit_bytes == node.prefetch.prefetched_bytes
    printed = CliRunner().invoke(app, ["status", "--prefetch", "--address", address]).stdout
    assert "hit rate" in printed
    assert "100%" in printed

"""What a worker does with a checkpoint, by the worker's own code, and how long each step of it took.

The timer starts when the lease is asked for. ``views_seconds``: every byte has arrived and every tensor is a view of
shared memory. ``touched_seconds``: one byte of every 4 KiB page was read as well. What a running worker has behind it
is behind this one too when the timer starts: imports, the connection, a first (tiny) checkpoint.
"""

import time
from collections.abc import Mapping
from typing import Any

import grpc
import uvloop

from kindling.bench.child import Answer, answer_parent
from kindling.bench.load.touch import touch_tensors
from kindling.platform.clock import SystemClock
from kindling.platform.rpc.channel import open_channel, remote_errors
from kindling.v1 import checkpoint_pb2, storage_pb2, storage_pb2_grpc
from kindling.worker.adapters.storage_client import StorageClient
from kindling.worker.domain.instance import LoadProgress

HOLDER = "bench/worker"


def measure(request: Answer) -> Mapping[str, Any]:
    """Open ``digest`` ``repeats`` times, after those ``before``; with ``keep``, it is evicted above that tier first."""
    import torch

    torch.set_num_threads(1)
    return {"opens": uvloop.run(_measure(request))}  # as workers do


async def _measure(request: Answer) -> list[dict[str, float]]:
    async with open_channel(request["address"]) as channel:
        await channel.channel_ready()
        if request["keep"]:
            await evict(channel, request["digest"], request["keep"])
        async with StorageClient(channel, holder=HOLDER, clock=SystemClock()) as client:
            for digest in request["before"]:
                await _open(client, digest)
            return [await _open(client, request["digest"]) for _ in range(request["repeats"])]


async def evict(channel: grpc.aio.Channel, digest: str, keep: str) -> None:
    """Drop every chunk above the tier ``keep``."""
    stub = storage_pb2_grpc.StorageServiceStub(channel)
    request = storage_pb2.EvictCheckpointRequest(digest=digest, keep=checkpoint_pb2.Tier.Value(keep))
    with remote_errors("the storage manager"):
        answer = await stub.EvictCheckpoint(request, timeout=60)
    assert not answer.pinned_bytes, "nobody else has the checkpoint open"


async def _open(client: StorageClient, digest: str) -> dict[str, float]:
    start = time.perf_counter()
    async with client.open(digest, _ignore) as checkpoint:
        mapped = time.perf_counter()
        tensors = [checkpoint.weights.tensor(name) for name in checkpoint.weights.tensors]
        await checkpoint.loaded()
        viewed = time.perf_counter()
        size_bytes = touch_tensors(tensors)
        touched = time.perf_counter()
        del tensors
    return {
        "mapped_seconds": mapped - start,
        "views_seconds": viewed - start,
        "touched_seconds": touched - start,
        "bytes": size_bytes,
    }


def _ignore(_progress: LoadProgress) -> None:
    return


if __name__ == "__main__":
    answer_parent(measure)

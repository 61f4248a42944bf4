"""What a storage manager that was killed leaves on the machine: nothing, or what its successor clears away."""

import asyncio
import json
import os
from pathlib import Path

import pytest

from kindling.platform.rpc.channel import open_channel
from kindling.storage.settings import HUGE_PAGE_BYTES
from kindling.v1 import storage_pb2, storage_pb2_grpc
from support.storage_checkpoint import make_checkpoint, partition_path
from support.storage_node import Place, open_checkpoint
from support.storage_process import StorageProcess, storage_process

MIB = 1 << 20
NO_ETCD = "127.0.0.1:1"
COUNTS = Path("/sys/kernel/mm/hugepages/hugepages-2048kB")
may_reserve = os.geteuid() == 0 and os.access(COUNTS / "nr_hugepages", os.W_OK)


def shared_memory_bytes() -> int:
    (line,) = [line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("Shmem:")]
    return int(line.split()[1]) * 1024


def pages(name: str) -> int:
    return int((COUNTS / name).read_text())


async def load(storage: StorageProcess, digest: str) -> storage_pb2.GetStorageStatusResponse:
    """Load ``digest`` and tell the node's status."""
    async with open_channel(storage.address) as channel:
        stub = storage_pb2_grpc.StorageServiceStub(channel)
        async with open_checkpoint(stub, digest) as lease:
            await lease.loaded()
            return await stub.GetStorageStatus(storage_pb2.GetStorageStatusRequest())


@pytest.mark.faults
async def test_memory_dies_with_the_process_and_the_socket_is_taken_over(place: Place) -> None:
    manifest = make_checkpoint(place.remote, chunks=192, chunk_bytes=MIB, tail_bytes=MIB)
    settings = {"etcd_endpoints": NO_ETCD, "pool_bytes": 192 * MIB, "chunk_bytes": MIB}
    async with storage_process(place, **settings) as storage:
        await load(storage, manifest.digest)
        before = shared_memory_bytes()
        await storage.kill()
        assert before - shared_memory_bytes() > 128 * MIB
    assert (place.cache / "storage.sock").exists(), "a killed process cannot clear away"
    async with storage_process(place, **settings) as storage:
        await load(storage, manifest.digest)
        assert await storage.terminate() == 0
    assert not (place.cache / "storage.sock").exists()


@pytest.mark.faults
@pytest.mark.skipif(not may_reserve, reason="reserving huge pages needs root")
async def test_huge_pages_are_reserved_outlive_a_kill_and_are_given_back(place: Place) -> None:
    manifest = make_checkpoint(place.remote, chunks=8, chunk_bytes=HUGE_PAGE_BYTES)
    # More than is free by chance, so that some must be asked for.
    pool_bytes = pages("free_hugepages") * HUGE_PAGE_BYTES + 64 * MIB
    settings = {
        "etcd_endpoints": NO_ETCD,
        "pool_bytes": pool_bytes,
        "chunk_bytes": HUGE_PAGE_BYTES,
        "reserve_huge_pages": True,
        "touch_pool": False,
    }
    state = place.cache / "huge_pages.json"
    async with storage_process(place, **settings) as storage:
        status = await load(storage, manifest.digest)
        assert "hugetlb" in status.tiers[0].backing
        assert json.loads(state.read_text())["added"] > 0
        await storage.kill()
    async with storage_process(place, **settings) as storage, open_channel(storage.address) as channel:
        stub = storage_pb2_grpc.StorageServiceStub(channel)
        async with open_checkpoint(stub, manifest.digest) as lease:
            await lease.loaded()
            memory = await asyncio.to_thread(lease.take_memory)
            assert len(memory.content()) == partition_path(place.remote, manifest).stat().st_size
            memory.close()
        added = json.loads(state.read_text())["added"]
        before = pages("nr_hugepages")
        assert await storage.terminate() == 0
        assert before - pages("nr_hugepages") == added > 0
    assert not state.exists()

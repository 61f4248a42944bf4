"""What the links are measured to carry, at start and by loads."""

import asyncio

from kindling.storage.app import StorageNode
from kindling.storage.domain.tier import Tier
from kindling.v1 import storage_pb2
from support.storage_checkpoint import make_checkpoint
from support.storage_node import Place, all_released, open_checkpoint, storage_node

MIB = 1 << 20
POOL = {"pool_bytes": 8 * MIB, "chunk_bytes": MIB}


async def measured(node: StorageNode) -> None:
    async with asyncio.timeout(20):
        await node.look_after.done.wait()


async def test_ssd_and_memory_are_measured_at_start_and_the_store_is_not(place: Place) -> None:
    async with storage_node(place, measure_at_start=True, **POOL) as (node, stub):
        await measured(node)
        status = await stub.GetStorageStatus(storage_pb2.GetStorageStatusRequest())
        dram, ssd, remote = [tier.bandwidth_bytes_per_second for tier in status.tiers]
        assert dram > 100e6
        assert ssd > 1e6
        assert remote == 0
        assert not list(place.cache.glob("*.scratch")), "nothing is left behind"
        assert node.tiers.pool.available_buffers == 8
        node.tiers.pool.check_integrity()


async def test_a_limit_shows_in_what_is_measured_at_start(place: Place) -> None:
    async with storage_node(place, measure_at_start=True, ssd_read_limit=50 * MIB, **POOL) as (node, _):
        await measured(node)
        assert 0 < node.tiers.bandwidth.bytes_per_second(Tier.SSD) <= 50 * MIB


async def test_without_a_free_buffer_nothing_is_measured(place: Place) -> None:
    async with storage_node(place, measure_at_start=True, pool_bytes=0) as (node, _):
        await measured(node)
        assert node.tiers.bandwidth.bytes_per_second(Tier.SSD) == 0


async def test_every_load_refines_what_is_known(place: Place) -> None:
    manifest = make_checkpoint(place.remote, chunks=4, chunk_bytes=MIB)
    async with storage_node(place, remote_read_limit=40 * MIB, **POOL) as (node, stub):
        async with open_checkpoint(stub, manifest.digest) as lease:
            await lease.loaded()
        await all_released(node)
        assert 0 < node.tiers.bandwidth.bytes_per_second(Tier.REMOTE) <= 40 * MIB


async def test_the_remote_store_is_counted(place: Place) -> None:
    manifests = [make_checkpoint(place.remote, seed=seed) for seed in range(2)]
    async with storage_node(place) as (node, stub):
        await measured(node)
        assert node.tiers.remote_used_bytes >= sum(manifest.total_bytes for manifest in manifests)
        before = node.tiers.remote_used_bytes
        await stub.DeleteCheckpoint(storage_pb2.DeleteCheckpointRequest(digest=manifests[0].digest))
        status = await stub.GetStorageStatus(storage_pb2.GetStorageStatusRequest())
        assert status.tiers[2].used_bytes == node.tiers.remote_used_bytes <= before - manifests[0].total_bytes

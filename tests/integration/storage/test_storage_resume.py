"""Loads that were cut short go on from what is on the SSD, and trust none of it unread."""

import asyncio
from pathlib import Path

import pytest

from kindling.checkpoint.manifest import Manifest
from kindling.platform.errors import UnavailableError
from kindling.platform.rpc.channel import open_channel
from kindling.v1 import checkpoint_pb2, storage_pb2_grpc
from support.storage_checkpoint import CHUNK_BYTES, flip_bit, make_checkpoint, partition_path
from support.storage_node import Place, all_released, open_checkpoint, storage_node
from support.storage_process import storage_process

CHUNKS = 24
SEEN_BEFORE_THE_KILL = 10
LANES = 4
# Slow enough to be killed in the middle, fast enough for a test.
REMOTE_BYTES_PER_SECOND = 40 * CHUNK_BYTES
NO_ETCD = "127.0.0.1:1"
JOURNAL = "chunks.journal"


def partial_copy(place: Place, manifest: Manifest) -> Path:
    path = partition_path(place.copies, manifest)
    return path.parent.with_name(path.parent.name + ".partial") / path.name


async def kill_in_mid_load(place: Place, manifest: Manifest) -> None:
    """SIGKILL a storage manager while a worker waits for it; the worker must learn of it at once."""
    limits = {"remote_read_limit": REMOTE_BYTES_PER_SECOND, "read_threads": LANES}
    async with (
        storage_process(place, etcd_endpoints=NO_ETCD, pool_bytes=32 * CHUNK_BYTES, **limits) as storage,
        open_channel(storage.address) as channel,
        open_checkpoint(storage_pb2_grpc.StorageServiceStub(channel), manifest.digest) as lease,
    ):
        arrived = 0
        while arrived < SEEN_BEFORE_THE_KILL:
            arrived += (await lease.next_event()).arrived.chunk_count
        await storage.kill()
        with pytest.raises(UnavailableError):
            async with asyncio.timeout(2):
                await lease.loaded()


async def finish(place: Place, manifest: Manifest) -> dict[int, int]:
    """Load in a successor, check every byte, and tell which tier gave how much."""
    async with storage_node(place, pool_bytes=32 * CHUNK_BYTES) as (node, stub):
        async with open_checkpoint(stub, manifest.digest) as lease:
            report = await lease.loaded()
            memory = await asyncio.to_thread(lease.take_memory)
            assert memory.content() == partition_path(place.remote, manifest).read_bytes()
            memory.close()
        await all_released(node)
        assert node.tiers.ledger.digests() == (manifest.digest,)
        node.tiers.ledger.check_integrity()
    sealed = partition_path(place.copies, manifest)
    assert sealed.read_bytes() == partition_path(place.remote, manifest).read_bytes()
    assert sorted(path.name for path in sealed.parent.iterdir()) == ["manifest.json", sealed.name]
    return {getattr(flow, "from"): flow.bytes for flow in report.traffic}


@pytest.mark.faults
async def test_a_killed_load_goes_on_from_the_ssd(place: Place) -> None:
    manifest = make_checkpoint(place.remote, chunks=CHUNKS)
    await kill_in_mid_load(place, manifest)
    traffic = await finish(place, manifest)
    assert traffic[checkpoint_pb2.TIER_SSD] >= (SEEN_BEFORE_THE_KILL - LANES) * CHUNK_BYTES
    assert traffic[checkpoint_pb2.TIER_SSD] + traffic[checkpoint_pb2.TIER_REMOTE] == manifest.total_bytes


@pytest.mark.faults
async def test_a_torn_write_is_never_trusted(place: Place) -> None:
    manifest = make_checkpoint(place.remote, chunks=CHUNKS)
    await kill_in_mid_load(place, manifest)
    partial = partial_copy(place, manifest)
    noted = len((partial.parent / JOURNAL).read_bytes()) // 4
    for torn in (0, 2):
        flip_bit(partial, torn * CHUNK_BYTES + 77)
    with (partial.parent / JOURNAL).open("ab") as journal:
        journal.write((CHUNKS - 1).to_bytes(4, "little"))  # promised, never written: a hole in the file
        journal.write((CHUNKS + 9).to_bytes(4, "little"))  # no such chunk
        journal.write(b"\x01\x00")  # cut short
    traffic = await finish(place, manifest)
    assert traffic[checkpoint_pb2.TIER_SSD] == (noted - 2) * CHUNK_BYTES


async def test_a_cancelled_load_goes_on_and_counts_as_use_of_the_disk(place: Place) -> None:
    manifest = make_checkpoint(place.remote, chunks=CHUNKS)
    async with storage_node(place, pool_bytes=0, remote_read_limit=REMOTE_BYTES_PER_SECOND) as (node, stub):
        async with open_checkpoint(stub, manifest.digest) as lease:
            while (await lease.next_event()).arrived.first_chunk < SEEN_BEFORE_THE_KILL:
                pass
        await all_released(node)
        assert (node.tiers.ledger.used_bytes, node.tiers.ledger.pinned_bytes) == (manifest.total_bytes, 0)
        async with open_checkpoint(stub, manifest.digest) as lease:
            report = await lease.loaded()
            memory = await asyncio.to_thread(lease.take_memory)
            assert memory.content() == partition_path(place.remote, manifest).read_bytes()
            memory.close()
        assert {getattr(flow, "from") for flow in report.traffic} == {
            checkpoint_pb2.TIER_SSD,
            checkpoint_pb2.TIER_REMOTE,
        }


async def test_an_unfinished_copy_gives_way_when_room_is_needed(place: Place) -> None:
    unfinished, other = make_checkpoint(place.remote, chunks=8, seed=1), make_checkpoint(place.remote, chunks=8, seed=2)
    settings = {"cache_bytes": 10 * CHUNK_BYTES, "remote_read_limit": REMOTE_BYTES_PER_SECOND}
    async with storage_node(place, **settings) as (node, stub):
        async with open_checkpoint(stub, unfinished.digest) as lease:
            await lease.next_event()
        await all_released(node)
        assert partial_copy(place, unfinished).exists()
    async with storage_node(place, cache_bytes=10 * CHUNK_BYTES) as (node, stub):
        assert node.tiers.ledger.used_bytes == unfinished.total_bytes
        async with open_checkpoint(stub, other.digest) as lease:
            await lease.loaded()
        await all_released(node)
        assert not partial_copy(place, unfinished).exists()
        assert node.tiers.ledger.digests() == (other.digest,)
        node.tiers.ledger.check_integrity()


async def test_an_unfinished_copy_with_a_lost_file_is_begun_anew(place: Place) -> None:
    manifest = make_checkpoint(place.remote, chunks=CHUNKS)
    async with storage_node(place, remote_read_limit=REMOTE_BYTES_PER_SECOND) as (node, stub):
        async with open_checkpoint(stub, manifest.digest) as lease:
            await lease.next_event()
        await all_released(node)
        partial_copy(place, manifest).unlink()
        node.tiers.pool.evict(manifest.digest)
    assert await finish(place, manifest) == {checkpoint_pb2.TIER_REMOTE: manifest.total_bytes}

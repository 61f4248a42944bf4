"""Disks that fail, fill up or lose files while a load is under way."""

import asyncio
import errno
import os
from typing import Any

import pytest

from kindling.platform.errors import ResourceExhaustedError
from kindling.v1 import checkpoint_pb2
from support.storage_checkpoint import CHUNK_BYTES, make_checkpoint, partition_path
from support.storage_node import Place, all_released, open_checkpoint, storage_node

SLOW = {"ssd_read_limit": 40 * CHUNK_BYTES}
SSD, REMOTE = checkpoint_pb2.TIER_SSD, checkpoint_pb2.TIER_REMOTE


def fill_up_after(monkeypatch: pytest.MonkeyPatch, writes: int) -> None:
    """Have the disk full from the given write on, as a copy-on-write file system can be in spite of set-aside room."""
    really, count = os.pwrite, iter(range(10**6))

    def pwrite(fd: int, data: Any, offset: int) -> int:
        if next(count) >= writes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return really(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)


async def test_a_disk_that_fills_up_in_mid_write_costs_the_copy_and_not_the_load(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = make_checkpoint(place.remote, chunks=8)
    async with storage_node(place) as (node, stub):
        fill_up_after(monkeypatch, 3)
        async with open_checkpoint(stub, manifest.digest) as lease:
            await lease.loaded()
            memory = await asyncio.to_thread(lease.take_memory)
            assert memory.content() == partition_path(place.remote, manifest).read_bytes()
            memory.close()
        await all_released(node)
        assert list(place.copies.iterdir()) == []
        assert node.tiers.ledger.used_bytes == 0
        node.tiers.ledger.check_integrity()


async def test_a_disk_that_fills_up_under_chunks_it_must_hold_fails_the_load_clearly(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = make_checkpoint(place.remote, chunks=8)
    async with storage_node(place, pool_bytes=2 * CHUNK_BYTES) as (node, stub):
        with monkeypatch.context() as patch:
            fill_up_after(patch, 3)
            async with open_checkpoint(stub, manifest.digest) as lease:
                with pytest.raises(ResourceExhaustedError) as caught:
                    await lease.loaded()
        assert caught.value.reason == "SSD_FULL"
        await all_released(node)
        async with open_checkpoint(stub, manifest.digest) as lease:
            assert await lease.loaded(), "with room again it works, from what was written before"
        node.tiers.ledger.check_integrity()


async def test_a_file_that_vanishes_under_a_load_is_read_to_its_end_and_fetched_again(place: Place) -> None:
    manifest = make_checkpoint(place.remote, chunks=16)
    content = partition_path(place.remote, manifest).read_bytes()
    async with storage_node(place, **SLOW) as (node, stub):
        async with open_checkpoint(stub, manifest.digest) as lease:
            await lease.loaded()
        await all_released(node)
        node.tiers.pool.evict(manifest.digest)
        for expected in (SSD, REMOTE):
            async with open_checkpoint(stub, manifest.digest) as lease:
                assert (await lease.next_event()).HasField("arrived")
                partition_path(place.copies, manifest).unlink(missing_ok=True)
                report = await lease.loaded()
                memory = await asyncio.to_thread(lease.take_memory)
                assert memory.content() == content
                memory.close()
            assert [getattr(flow, "from") for flow in report.traffic] == [expected]
            await all_released(node)
            node.tiers.pool.evict(manifest.digest)


async def test_a_file_cut_short_under_a_load_is_repaired_from_remote(place: Place) -> None:
    manifest = make_checkpoint(place.remote, chunks=48)
    content = partition_path(place.remote, manifest).read_bytes()
    async with storage_node(place, pool_bytes=48 * CHUNK_BYTES, **SLOW) as (node, stub):
        async with open_checkpoint(stub, manifest.digest) as lease:
            await lease.loaded()
        await all_released(node)
        node.tiers.pool.evict(manifest.digest)
        async with open_checkpoint(stub, manifest.digest) as lease:
            assert (await lease.next_event()).HasField("arrived")
            # Far behind what is being read: a chunk that was read is not written again.
            os.truncate(partition_path(place.copies, manifest), 40 * CHUNK_BYTES)
            report = await lease.loaded()
            memory = await asyncio.to_thread(lease.take_memory)
            assert memory.content() == content
            memory.close()
        traffic = {getattr(flow, "from"): flow.bytes for flow in report.traffic}
        assert traffic[REMOTE] >= 7 * CHUNK_BYTES
        await all_released(node)
        assert partition_path(place.copies, manifest).read_bytes() == content

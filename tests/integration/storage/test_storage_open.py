"""Opening checkpoints: tiers, pins, many waiters, restart."""

import asyncio
import mmap
from pathlib import Path

import pytest

from kindling.platform.errors import InvalidArgumentError, NotFoundError, PermissionDeniedError
from kindling.platform.rpc.channel import remote_errors
from kindling.v1 import checkpoint_pb2, storage_pb2
from support.storage_checkpoint import CHUNK_BYTES, make_checkpoint, partition_path
from support.storage_node import Place, all_released, open_checkpoint, storage_node

DRAM, SSD, REMOTE = checkpoint_pb2.TIER_DRAM, checkpoint_pb2.TIER_SSD, checkpoint_pb2.TIER_REMOTE


def tiers_of(report: checkpoint_pb2.LoadReport) -> dict[int, int]:
    return {getattr(flow, "from"): flow.bytes for flow in report.traffic}


@pytest.mark.parametrize("partitions", [1, 3])
async def test_bytes_come_from_remote_then_dram_then_ssd(place: Place, partitions: int) -> None:
    manifest = make_checkpoint(place.remote, partitions=partitions)
    expected = [partition_path(place.remote, manifest, p).read_bytes() for p in range(partitions)]
    async with storage_node(place) as (node, stub):
        for tier in (REMOTE, DRAM, SSD):
            async with open_checkpoint(stub, manifest.digest) as lease:
                report = await lease.loaded()
                assert tiers_of(report) == {tier: manifest.total_bytes}
                assert lease.opened.HasField("loaded") == (tier is DRAM), "what is there needs no more events"
                assert {getattr(arrived, "from") for arrived in lease.arrivals} == {tier} - {DRAM}
                assert sum(a.chunk_count for a in lease.arrivals) == (0 if tier is DRAM else manifest.chunk_count)
                memory = await asyncio.to_thread(lease.take_memory)
                assert [memory.content(p) for p in range(partitions)] == expected
                memory.close()
            await all_released(node)
            if tier is DRAM:
                await stub.EvictCheckpoint(storage_pb2.EvictCheckpointRequest(digest=manifest.digest, keep=SSD))
        assert [partition_path(place.copies, manifest, p).read_bytes() for p in range(partitions)] == expected
        node.tiers.pool.check_integrity()
        node.tiers.ledger.check_integrity()


async def test_who_joins_after_the_load_is_told_where_the_bytes_are_not_where_they_came_from(place: Place) -> None:
    manifest = make_checkpoint(place.remote)
    async with storage_node(place) as (_, stub), open_checkpoint(stub, manifest.digest) as first:
        assert tiers_of(await first.loaded()) == {REMOTE: manifest.total_bytes}
        async with open_checkpoint(stub, manifest.digest) as second:
            assert tiers_of(second.opened.loaded) == {DRAM: manifest.total_bytes}


async def test_the_manifest_and_the_small_files_come_with_the_lease(place: Place) -> None:
    manifest = make_checkpoint(place.remote)
    async with storage_node(place) as (_, stub), open_checkpoint(stub, manifest.digest) as lease:
        stored = (place.remote / manifest.digest.replace(":", "-") / "manifest.json").read_bytes()
        assert lease.opened.manifest_json == stored
        files = Path(lease.opened.files_directory)
        assert files.is_relative_to(place.cache)
        assert (files / "config.json").read_bytes() == b'{"model_type": "llama"}'


async def test_many_waiters_share_one_load_and_each_hears_everything(place: Place) -> None:
    manifest = make_checkpoint(place.remote, chunks=9)
    async with storage_node(place) as (node, stub):

        async def follow() -> checkpoint_pb2.LoadReport:
            async with open_checkpoint(stub, manifest.digest) as lease:
                report = await lease.loaded()
                assert sum(a.chunk_count for a in lease.arrivals) == manifest.chunk_count
                return report

        reports = await asyncio.gather(*(follow() for _ in range(8)))
        assert all(sum(tiers_of(report).values()) == manifest.total_bytes for report in reports)
        assert sum(tiers_of(report) == {REMOTE: manifest.total_bytes} for report in reports) >= 1
        node.tiers.pool.check_integrity()


async def test_a_lease_pins_and_its_end_unpins(place: Place) -> None:
    manifest = make_checkpoint(place.remote)
    evict = storage_pb2.EvictCheckpointRequest(digest=manifest.digest, keep=REMOTE)
    async with storage_node(place) as (node, stub):
        async with open_checkpoint(stub, manifest.digest, holder="node-a/w7") as lease:
            await lease.loaded()
            status = await stub.GetStorageStatus(storage_pb2.GetStorageStatusRequest())
            assert [(held.digest, held.holder) for held in status.leases] == [(manifest.digest, "node-a/w7")]
            dram = status.tiers[0]
            assert (dram.tier, dram.used_bytes, dram.pinned_bytes) == (DRAM, *[manifest.total_bytes] * 2)
            assert [(c.digest, c.chunks, c.bytes) for c in dram.checkpoints] == [
                (manifest.digest, manifest.chunk_count, manifest.total_bytes)
            ]
            evicted = await stub.EvictCheckpoint(evict)
            assert evicted.dropped_bytes == 0
            assert evicted.pinned_bytes >= manifest.total_bytes
        await all_released(node)
        assert node.tiers.pool.pinned_bytes == 0
        evicted = await stub.EvictCheckpoint(evict)
        assert (evicted.dropped_bytes, evicted.pinned_bytes) == (2 * manifest.total_bytes, 0)
        assert not list(place.copies.iterdir())


async def test_a_pool_smaller_than_the_model_serves_the_tail_from_the_ssd_copy(place: Place) -> None:
    manifest = make_checkpoint(place.remote, chunks=9, partitions=2)
    expected = [partition_path(place.remote, manifest, p).read_bytes() for p in range(2)]
    async with storage_node(place, pool_bytes=4 * CHUNK_BYTES) as (node, stub):
        for _ in range(2):
            async with open_checkpoint(stub, manifest.digest) as lease:
                memory = await asyncio.to_thread(lease.take_memory)  # before the bytes are there
                await lease.loaded()
                assert [memory.content(p) for p in range(2)] == expected
                assert len(memory.fds) == 4 + 2
                memory.close()
            await all_released(node)


async def test_chunks_larger_than_the_pools_are_served_from_the_ssd_copy(place: Place) -> None:
    manifest = make_checkpoint(place.remote, chunk_bytes=2 * CHUNK_BYTES)
    async with storage_node(place) as (_, stub), open_checkpoint(stub, manifest.digest) as lease:
        await lease.loaded()
        memory = await asyncio.to_thread(lease.take_memory)
        assert memory.content() == partition_path(place.remote, manifest).read_bytes()
        memory.close()


async def test_models_share_a_pool_that_cannot_hold_them_all_and_heads_stay(place: Place) -> None:
    manifests = [make_checkpoint(place.remote, chunks=8, seed=seed) for seed in range(4)]
    async with storage_node(place, pool_bytes=16 * CHUNK_BYTES) as (node, stub):
        for manifest in [*manifests, *manifests]:
            async with open_checkpoint(stub, manifest.digest) as lease:
                await lease.loaded()
                memory = await asyncio.to_thread(lease.take_memory)
                assert memory.content() == partition_path(place.remote, manifest).read_bytes()
                memory.close()
            await all_released(node)
            node.tiers.pool.check_integrity()
        assert all(node.tiers.pool.filled_chunks(manifest.digest) >= 2 for manifest in manifests)


async def test_a_token_works_once_and_only_while_the_lease_lasts(place: Place) -> None:
    manifest = make_checkpoint(place.remote)
    async with storage_node(place) as (node, stub):
        async with open_checkpoint(stub, manifest.digest) as lease:
            await lease.loaded()
            (await asyncio.to_thread(lease.take_memory)).close()
            with pytest.raises(PermissionDeniedError):
                await asyncio.to_thread(lease.take_memory)
        async with open_checkpoint(stub, manifest.digest) as late:
            pass
        await all_released(node)
        with pytest.raises(PermissionDeniedError):
            await asyncio.to_thread(late.take_memory)


async def test_a_worker_cannot_write_nor_see_what_comes_after_it(place: Place) -> None:
    mine = make_checkpoint(place.remote, chunks=4, tail_bytes=CHUNK_BYTES, seed=1)
    other = make_checkpoint(place.remote, chunks=4, tail_bytes=CHUNK_BYTES, seed=2)
    async with storage_node(place, pool_bytes=4 * CHUNK_BYTES) as (node, stub):
        async with open_checkpoint(stub, mine.digest) as lease:
            await lease.loaded()
            memory = await asyncio.to_thread(lease.take_memory)
        await all_released(node)
        with pytest.raises(PermissionError):
            mmap.mmap(memory.fds[0], CHUNK_BYTES, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        async with open_checkpoint(stub, other.digest) as lease:
            await lease.loaded()
            theirs = await asyncio.to_thread(lease.take_memory)
            assert theirs.content() == partition_path(place.remote, other).read_bytes()
            assert memory.content() == partition_path(place.remote, mine).read_bytes(), "kept, though not leased"
            theirs.close()
        memory.close()


async def test_unknown_and_malformed_digests_are_clear_errors(place: Place) -> None:
    async with storage_node(place) as (_, stub):
        with pytest.raises(NotFoundError) as unknown:
            async with open_checkpoint(stub, "blake3:" + "0" * 64):
                pass
        assert unknown.value.reason == "CHECKPOINT_NOT_FOUND"
        for digest in ("", "blake3:../../etc", "sha256:" + "0" * 64, "blake3:" + "0" * 64 + "/.."):
            with pytest.raises(InvalidArgumentError):
                async with open_checkpoint(stub, digest):
                    pass


async def test_a_restart_knows_what_is_on_the_ssd_and_drops_what_was_half_written(place: Place) -> None:
    manifest = make_checkpoint(place.remote)
    async with storage_node(place) as (_, stub), open_checkpoint(stub, manifest.digest) as lease:
        await lease.loaded()
    leftover = place.copies / "blake3-0.partial"
    leftover.mkdir()
    async with storage_node(place) as (_, stub):
        assert not leftover.exists()
        status = await stub.GetStorageStatus(storage_pb2.GetStorageStatusRequest())
        assert [(c.digest, c.bytes) for c in status.tiers[1].checkpoints] == [(manifest.digest, manifest.total_bytes)]
        partition_path(place.remote, manifest).unlink()
        async with open_checkpoint(stub, manifest.digest) as lease:
            assert tiers_of(await lease.loaded()) == {SSD: manifest.total_bytes}


async def test_deleting_removes_every_trace_but_not_under_a_lease(place: Place) -> None:
    manifest = make_checkpoint(place.remote)
    request = storage_pb2.DeleteCheckpointRequest(digest=manifest.digest)
    async with storage_node(place) as (node, stub):
        async with open_checkpoint(stub, manifest.digest) as lease:
            await lease.loaded()
            with pytest.raises(Exception, match="in use"):
                await stub.DeleteCheckpoint(request)
        await all_released(node)
        await stub.DeleteCheckpoint(request)
        assert not list(place.remote.iterdir())
        assert not [path for path in place.cache.rglob("*") if path.is_dir() and path.name.startswith("blake3")]
        with pytest.raises(NotFoundError), remote_errors("storage"):
            await stub.DeleteCheckpoint(request)


async def test_small_files_stream_in_pieces(place: Place) -> None:
    manifest = make_checkpoint(place.remote)
    async with storage_node(place) as (_, stub):
        call = stub.ReadCheckpointFiles(storage_pb2.ReadCheckpointFilesRequest(digest=manifest.digest))
        parts = [response.part async for response in call]
        assert [(p.path, p.file_bytes, p.offset, p.data) for p in parts] == [
            ("config.json", 23, 0, b'{"model_type": "llama"}')
        ]


async def test_draining_ends_every_lease_with_the_terminal_event(place: Place) -> None:
    manifest = make_checkpoint(place.remote)
    async with storage_node(place) as (node, stub), open_checkpoint(stub, manifest.digest) as lease:
        await lease.loaded()
        node.drain()
        event = await lease.next_event()
        assert "shutting down" in event.closed.reason
        with pytest.raises(Exception, match="shutting down"):
            async with open_checkpoint(stub, manifest.digest) as late:
                await late.loaded()

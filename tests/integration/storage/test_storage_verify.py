"""Checking checkpoints on a node: what is bad is found, named, repaired or put aside."""

import asyncio
from typing import Any

import pytest

from kindling.checkpoint.manifest import Manifest
from kindling.platform.errors import NotFoundError
from kindling.platform.rpc.channel import remote_errors
from kindling.storage.app import StorageNode
from kindling.v1 import checkpoint_pb2, storage_pb2
from support.storage_checkpoint import CHUNK_BYTES, flip_bit, make_checkpoint, partition_path
from support.storage_node import Place, all_released, open_checkpoint, storage_node

DRAM, SSD, REMOTE = checkpoint_pb2.TIER_DRAM, checkpoint_pb2.TIER_SSD, checkpoint_pb2.TIER_REMOTE


async def load(node: StorageNode, stub: Any, manifest: Manifest) -> None:
    async with open_checkpoint(stub, manifest.digest) as lease:
        await lease.loaded()
    await all_released(node)


async def verify(stub: Any, manifest: Manifest, **options: bool) -> checkpoint_pb2.VerifyReport:
    request = storage_pb2.VerifyCheckpointRequest(digest=manifest.digest, **options)
    done_bytes = []
    with remote_errors("storage"):
        async for event in stub.VerifyCheckpoint(request):
            if event.HasField("verified"):
                assert done_bytes == sorted(done_bytes)
                assert done_bytes[-1] == manifest.total_bytes
                return event.verified
            done_bytes.append(event.progress.done_bytes)
    raise AssertionError("the stream ended without a verdict")


def bad(report: checkpoint_pb2.VerifyReport) -> dict[int, list[tuple[int, bool]]]:
    found = {tier.tier: [(chunk.chunk, chunk.repaired) for chunk in tier.bad_chunks] for tier in report.tiers}
    return {tier: chunks for tier, chunks in found.items() if chunks}


async def test_an_intact_checkpoint_is_read_at_every_tier(place: Place) -> None:
    manifest = make_checkpoint(place.remote, partitions=2)
    async with storage_node(place) as (node, stub):
        await load(node, stub, manifest)
        report = await verify(stub, manifest, check_remote=True)
        assert [(tier.tier, tier.checked_chunks) for tier in report.tiers] == [(DRAM, 10), (SSD, 10), (REMOTE, 10)]
        assert bad(report) == {}
        status = await stub.GetStorageStatus(storage_pb2.GetStorageStatusRequest())
        (on_ssd,) = status.tiers[1].checkpoints
        assert on_ssd.verified
        node.tiers.pool.check_integrity()


async def test_without_repair_a_bad_chunk_is_only_told_of(place: Place) -> None:
    manifest = make_checkpoint(place.remote)
    async with storage_node(place) as (node, stub):
        await load(node, stub, manifest)
        copy = partition_path(place.copies, manifest)
        flip_bit(copy, 2 * CHUNK_BYTES)
        damaged = copy.read_bytes()
        report = await verify(stub, manifest)
        assert bad(report) == {SSD: [(2, False)]}
        assert str(copy) in report.tiers[1].bad_chunks[0].problem
        assert copy.read_bytes() == damaged


async def test_repair_brings_bad_chunks_from_the_remote_store(place: Place) -> None:
    manifest = make_checkpoint(place.remote)
    async with storage_node(place) as (node, stub):
        await load(node, stub, manifest)
        copy = partition_path(place.copies, manifest)
        for chunk in (0, 4):
            flip_bit(copy, chunk * CHUNK_BYTES + 9)
        assert bad(await verify(stub, manifest, repair=True)) == {SSD: [(0, True), (4, True)]}
        assert copy.read_bytes() == partition_path(place.remote, manifest).read_bytes()
        assert bad(await verify(stub, manifest)) == {}


async def test_a_bad_remote_chunk_is_told_of_and_left_alone(place: Place) -> None:
    manifest = make_checkpoint(place.remote)
    async with storage_node(place) as (node, stub):
        await load(node, stub, manifest)
        path = partition_path(place.remote, manifest)
        flip_bit(path, CHUNK_BYTES)
        damaged = path.read_bytes()
        report = await verify(stub, manifest, repair=True, check_remote=True)
        assert bad(report) == {REMOTE: [(1, False)]}
        assert path.read_bytes() == damaged
        assert not report.quarantined


async def test_a_chunk_that_is_bad_everywhere_puts_the_copy_aside(place: Place) -> None:
    manifest = make_checkpoint(place.remote)
    async with storage_node(place) as (node, stub):
        await load(node, stub, manifest)
        node.tiers.pool.evict(manifest.digest)
        for store in (place.remote, place.copies):
            flip_bit(partition_path(store, manifest), 3 * CHUNK_BYTES)
        report = await verify(stub, manifest, repair=True)
        assert report.quarantined
        assert bad(report) == {SSD: [(3, False)]}
        problem = report.tiers[0].bad_chunks[0].problem
        assert "chunk 3" in problem
        assert str(partition_path(place.copies, manifest)) in problem
        assert str(partition_path(place.remote, manifest)) in problem
        assert [path.suffix for path in place.copies.iterdir()] == [".quarantined"]
        assert node.tiers.residency(manifest.digest) == ()


async def test_a_store_that_is_away_is_no_reason_to_put_a_copy_aside(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = make_checkpoint(place.remote)
    async with storage_node(place) as (node, stub):
        await load(node, stub, manifest)
        flip_bit(partition_path(place.copies, manifest), 5)

        async def away(_manifest: Manifest) -> None:
            raise NotFoundError("the store is away", reason="GONE")

        monkeypatch.setattr(node.tiers.remote, "open", away)
        report = await verify(stub, manifest, repair=True)
        assert bad(report) == {SSD: [(0, False)]}
        assert not report.quarantined
        assert node.tiers.ledger.has(manifest.digest)


async def test_bad_memory_is_dropped_unless_somebody_uses_it(place: Place) -> None:
    manifest = make_checkpoint(place.remote)
    async with storage_node(place) as (node, stub):
        await load(node, stub, manifest)  # what is still to be written to the SSD would take the damage there
        async with open_checkpoint(stub, manifest.digest) as lease:
            await lease.loaded()
            node.tiers.memory.view(node.tiers.pool.buffers(manifest.digest)[1])[7] ^= 1
            assert bad(await verify(stub, manifest, repair=True)) == {DRAM: [(1, False)]}
        await all_released(node)
        assert bad(await verify(stub, manifest, repair=True)) == {DRAM: [(1, True)]}
        assert node.tiers.pool.filled_chunks(manifest.digest) == 0
        node.tiers.pool.check_integrity()


async def test_what_was_found_at_start_is_verified_and_repaired_in_the_background(place: Place) -> None:
    good, damaged = make_checkpoint(place.remote, seed=1), make_checkpoint(place.remote, seed=2)
    async with storage_node(place) as (node, stub):
        for manifest in (good, damaged):
            await load(node, stub, manifest)
    flip_bit(partition_path(place.copies, damaged), 5)
    async with storage_node(place, verify_at_start=True) as (node, _):
        async with asyncio.timeout(10):
            await node.look_after.done.wait()
        assert node.tiers.verified == {good.digest, damaged.digest}
        content = partition_path(place.remote, damaged).read_bytes()
        assert partition_path(place.copies, damaged).read_bytes() == content


async def test_a_checkpoint_that_nobody_has_is_not_found(place: Place) -> None:
    async with storage_node(place) as (_, stub):
        place.remote.mkdir()
        other = make_checkpoint(place.root / "elsewhere")
        with pytest.raises(NotFoundError):
            await verify(stub, other)

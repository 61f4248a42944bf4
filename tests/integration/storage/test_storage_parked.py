"""Parked leases: pins that give way when the room is needed."""

import asyncio
from typing import Any

import pytest

from kindling.platform.errors import FailedPreconditionError, NotFoundError
from kindling.platform.rpc.channel import remote_errors
from kindling.storage.app import StorageNode
from kindling.v1 import checkpoint_pb2, storage_pb2
from support.storage_checkpoint import CHUNK_BYTES, make_checkpoint
from support.storage_node import OpenedCheckpoint, Place, all_released, open_checkpoint, storage_node

DRAM, REMOTE = checkpoint_pb2.TIER_DRAM, checkpoint_pb2.TIER_REMOTE
TWO_FIT = 12 * CHUNK_BYTES  # checkpoints of five chunks


async def park(stub: Any, lease: OpenedCheckpoint, *, parked: bool = True) -> None:
    with remote_errors("storage"):
        await stub.SetLeaseParked(storage_pb2.SetLeaseParkedRequest(lease_id=lease.opened.lease_id, parked=parked))


async def sealed(node: StorageNode) -> None:
    """Return when the SSD copies of what is open are written: only then can it give way."""
    for holding in node.use_cases.opens.holdings():
        await holding.load_ended.wait()


async def status_of(stub: Any) -> tuple[list[tuple[str, bool]], int]:
    """Leases with whether they are parked, and bytes pinned in DRAM."""
    status = await stub.GetStorageStatus(storage_pb2.GetStorageStatusRequest())
    return [(lease.digest, lease.parked) for lease in status.leases], status.tiers[0].pinned_bytes


def check(node: StorageNode) -> None:
    node.tiers.pool.check_integrity()
    node.tiers.ledger.check_integrity()


async def test_a_parked_lease_holds_its_memory_but_pins_nothing(place: Place) -> None:
    manifest = make_checkpoint(place.remote)
    async with storage_node(place) as (node, stub), open_checkpoint(stub, manifest.digest) as lease:
        await lease.loaded()
        assert await status_of(stub) == ([(manifest.digest, False)], manifest.total_bytes)
        await sealed(node)
        await park(stub, lease)
        assert await status_of(stub) == ([(manifest.digest, True)], 0)
        await park(stub, lease, parked=False)
        assert await status_of(stub) == ([(manifest.digest, False)], manifest.total_bytes)
        check(node)


async def test_the_longest_parked_gives_way_first_and_only_as_many_as_needed(place: Place) -> None:
    first, second, third = (make_checkpoint(place.remote, seed=seed) for seed in (1, 2, 3))
    async with (
        storage_node(place, pool_bytes=TWO_FIT) as (node, stub),
        open_checkpoint(stub, first.digest) as one,
        open_checkpoint(stub, second.digest) as two,
    ):
        for lease in (two, one):
            await lease.loaded()
            await sealed(node)
            await park(stub, lease)
        opening = asyncio.create_task(_open_fully(stub, third.digest))
        closed = await two.next_event()
        assert closed.closed.reason == "EVICTED"
        two.call.cancel()
        assert await opening == third.total_bytes
        assert (await status_of(stub))[0] == [(first.digest, True)]
        await park(stub, one, parked=False)
        check(node)


async def test_what_nobody_has_open_gives_way_before_what_is_parked(place: Place) -> None:
    idle, parked, wanted = (make_checkpoint(place.remote, seed=seed) for seed in (1, 2, 3))
    async with storage_node(place, pool_bytes=TWO_FIT) as (node, stub):
        await _open_fully(stub, idle.digest)
        await all_released(node)
        async with open_checkpoint(stub, parked.digest) as lease:
            await lease.loaded()
            await park(stub, lease)
            assert await _open_fully(stub, wanted.digest) == wanted.total_bytes
            await park(stub, lease, parked=False)


async def test_a_holder_that_hangs_is_not_waited_for_long(place: Place) -> None:
    first, second, third = (make_checkpoint(place.remote, seed=seed) for seed in (1, 2, 3))
    async with (
        storage_node(place, pool_bytes=TWO_FIT) as (node, stub),
        open_checkpoint(stub, first.digest) as one,
        open_checkpoint(stub, second.digest) as two,
    ):
        await one.loaded()
        await two.loaded()
        memory = await asyncio.to_thread(one.take_memory)
        await sealed(node)
        before = memory.content()
        await park(stub, one)
        assert await _open_fully(stub, third.digest) == third.total_bytes
        assert memory.content() == before, "whoever keeps the memory keeps its content"
        memory.close()
        check(node)


async def test_a_lease_that_was_taken_back_cannot_be_had_again(place: Place) -> None:
    manifest, other = make_checkpoint(place.remote, seed=1), make_checkpoint(place.remote, seed=2, chunks=10)
    async with storage_node(place, pool_bytes=TWO_FIT) as (node, stub), open_checkpoint(stub, manifest.digest) as lease:
        await lease.loaded()
        await sealed(node)
        await park(stub, lease)
        opening = asyncio.create_task(_open_fully(stub, other.digest))
        assert (await lease.next_event()).closed.reason == "EVICTED"
        with pytest.raises(NotFoundError) as caught:
            await park(stub, lease, parked=False)
        assert caught.value.reason == "LEASE_UNKNOWN"
        lease.call.cancel()
        await opening


async def test_a_firm_lease_on_the_same_checkpoint_protects_it(place: Place) -> None:
    manifest, other = make_checkpoint(place.remote, seed=1), make_checkpoint(place.remote, seed=2, chunks=10)
    async with (
        storage_node(place, pool_bytes=TWO_FIT) as (node, stub),
        open_checkpoint(stub, manifest.digest, "node-a/w0") as parked,
    ):
        await parked.loaded()
        await park(stub, parked)
        async with open_checkpoint(stub, manifest.digest, "node-a/w1") as firm:
            await firm.loaded()
            assert (await status_of(stub))[1] == manifest.total_bytes
            async with open_checkpoint(stub, other.digest) as opened:
                await opened.loaded()
                extents = await asyncio.to_thread(opened.take_memory)
                extents.close()
            await park(stub, parked, parked=False)
        check(node)


async def test_a_load_under_way_cannot_be_parked(place: Place) -> None:
    manifest = make_checkpoint(place.remote)
    async with (
        storage_node(place, remote_read_limit=CHUNK_BYTES) as (_, stub),
        open_checkpoint(stub, manifest.digest) as lease,
    ):
        with pytest.raises(FailedPreconditionError) as caught:
            await park(stub, lease)
        assert caught.value.reason == "LOAD_UNDER_WAY"


@pytest.mark.parametrize("keep", [DRAM, REMOTE])
async def test_asking_for_eviction_takes_parked_leases_back(place: Place, keep: int) -> None:
    manifest = make_checkpoint(place.remote)
    evict = storage_pb2.EvictCheckpointRequest(digest=manifest.digest, keep=keep)
    async with storage_node(place) as (node, stub), open_checkpoint(stub, manifest.digest) as lease:
        await lease.loaded()
        await sealed(node)
        await park(stub, lease)
        evicting = asyncio.ensure_future(stub.EvictCheckpoint(evict))
        assert (await lease.next_event()).closed.reason == "EVICTION_REQUESTED"
        lease.call.cancel()
        answer = await evicting
        assert answer.pinned_bytes == 0
        assert (answer.dropped_bytes > 0) == (keep == REMOTE)
        check(node)


async def test_a_parked_checkpoint_can_be_deleted(place: Place) -> None:
    manifest = make_checkpoint(place.remote)
    async with storage_node(place) as (node, stub), open_checkpoint(stub, manifest.digest) as lease:
        await lease.loaded()
        await sealed(node)
        await park(stub, lease)
        deleting = asyncio.ensure_future(
            stub.DeleteCheckpoint(storage_pb2.DeleteCheckpointRequest(digest=manifest.digest))
        )
        assert (await lease.next_event()).HasField("closed")
        lease.call.cancel()
        await deleting
        assert node.tiers.pool.used_bytes == 0
        check(node)


async def test_an_unknown_lease_cannot_be_parked(place: Place) -> None:
    async with storage_node(place) as (_, stub):
        with pytest.raises(NotFoundError), remote_errors("storage"):
            await stub.SetLeaseParked(storage_pb2.SetLeaseParkedRequest(lease_id="none", parked=True))


async def test_eviction_down_to_the_device_leaves_what_is_parked_there(place: Place) -> None:
    manifest = make_checkpoint(place.remote)
    evict = storage_pb2.EvictCheckpointRequest(digest=manifest.digest, keep=checkpoint_pb2.TIER_GPU)
    async with storage_node(place) as (node, stub), open_checkpoint(stub, manifest.digest) as lease:
        await lease.loaded()
        await sealed(node)
        await park(stub, lease)
        answer = await stub.EvictCheckpoint(evict)
        assert (answer.dropped_bytes, answer.pinned_bytes) == (0, 0)
        await park(stub, lease, parked=False)


async def _open_fully(stub: Any, digest: str) -> int:
    """Open, and return the bytes that lie in DRAM then."""
    async with open_checkpoint(stub, digest) as lease:
        await lease.loaded()
        status = await stub.GetStorageStatus(storage_pb2.GetStorageStatusRequest())
        return next(held.bytes for held in status.tiers[0].checkpoints if held.digest == digest)

"""A load that nobody wants any more is stopped, and what it had is put in order."""

import asyncio
from pathlib import Path
from typing import Any

from kindling.checkpoint import Manifest
from kindling.storage.ports import ChunkSource, RemoteStore
from support.storage_checkpoint import CHUNK_BYTES, make_checkpoint, partition_path
from support.storage_node import Place, all_released, open_checkpoint, storage_node


class GatedRemote:
    """A remote store whose chunks from ``first_held`` on wait for ``gate``."""

    def __init__(self, inner: RemoteStore, first_held: int) -> None:
        self._inner = inner
        self.first_held = first_held
        self.gate = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def open(self, manifest: Manifest) -> "GatedSource":
        return GatedSource(await self._inner.open(manifest), self)


class GatedSource:
    def __init__(self, inner: ChunkSource, remote: GatedRemote) -> None:
        self._inner = inner
        self._remote = remote

    async def read_chunk(self, chunk: int, into: memoryview, *, cached: bool = False) -> None:
        if chunk >= self._remote.first_held:
            await self._remote.gate.wait()
        await self._inner.read_chunk(chunk, into, cached=cached)

    def close(self) -> None:
        self._inner.close()


async def test_when_the_last_waiter_goes_the_head_stays_and_the_copy_is_gone_on_with(place: Place) -> None:
    manifest = make_checkpoint(place.remote, chunks=6)
    async with storage_node(place) as (node, stub):
        node.tiers.remote = GatedRemote(node.tiers.remote, first_held=2)
        async with open_checkpoint(stub, manifest.digest) as first, open_checkpoint(stub, manifest.digest) as second:
            assert (await first.next_event()).arrived.first_chunk == 0
            assert (await second.next_event()).arrived.first_chunk == 0
            (holding,) = node.use_cases.opens.holdings()
            while holding.board.watermark < 2:
                await holding.board.change.wait()
        await all_released(node)
        assert node.tiers.pool.filled_chunks(manifest.digest) == 2
        assert node.tiers.pool.pinned_bytes == 0
        assert [path.suffix for path in place.copies.iterdir()] == [".partial"]
        assert node.tiers.ledger.digests() == ()
        assert node.tiers.ledger.pinned_bytes == 0
        node.tiers.pool.check_integrity()
        node.tiers.ledger.check_integrity()


async def test_one_waiter_less_does_not_stop_the_others(place: Place) -> None:
    manifest = make_checkpoint(place.remote)
    async with storage_node(place) as (node, stub):
        gated = node.tiers.remote = GatedRemote(node.tiers.remote, first_held=1)
        async with open_checkpoint(stub, manifest.digest) as stays:
            async with open_checkpoint(stub, manifest.digest):
                pass
            gated.gate.set()
            await stays.loaded()


async def test_a_checkpoint_whose_load_was_cancelled_can_be_opened_at_once(place: Place) -> None:
    manifest = make_checkpoint(place.remote, chunks=6)
    expected = partition_path(place.remote, manifest).read_bytes()
    async with storage_node(place) as (node, stub):
        gated = node.tiers.remote = GatedRemote(node.tiers.remote, first_held=3)
        for _ in range(3):
            async with open_checkpoint(stub, manifest.digest):
                pass
        gated.gate.set()
        async with open_checkpoint(stub, manifest.digest) as lease:
            await lease.loaded()
            memory = await asyncio.to_thread(lease.take_memory)
            assert memory.content() == expected
            memory.close()
        await all_released(node)
        assert partition_path(place.copies, manifest).read_bytes() == expected


async def test_a_resident_head_arrives_at_once_and_the_tail_follows(place: Place) -> None:
    manifest = make_checkpoint(place.remote, chunks=8)
    other = make_checkpoint(place.remote, chunks=5, seed=2, tail_bytes=CHUNK_BYTES)
    async with storage_node(place, pool_bytes=8 * CHUNK_BYTES) as (node, stub):
        for digest in (manifest.digest, other.digest):
            async with open_checkpoint(stub, digest) as lease:
                await lease.loaded()
            await all_released(node)
        assert node.tiers.pool.filled_chunks(manifest.digest) == 3
        async with open_checkpoint(stub, manifest.digest) as lease:
            head = (await lease.next_event()).arrived
            assert (head.first_chunk, head.chunk_count, getattr(head, "from")) == (0, 3, 2)
            await lease.loaded()
            memory = await asyncio.to_thread(lease.take_memory)
            assert memory.content() == partition_path(place.remote, manifest).read_bytes()
            memory.close()


async def test_draining_in_the_middle_of_a_load_ends_it(place: Place, tmp_path: Path) -> None:
    manifest = make_checkpoint(place.remote)
    async with storage_node(place) as (node, stub):
        node.tiers.remote = GatedRemote(node.tiers.remote, first_held=1)
        async with open_checkpoint(stub, manifest.digest) as lease:
            node.drain()
            while not (event := await lease.next_event()).HasField("closed"):
                assert event.HasField("arrived")
        await all_released(node)
    assert [path.suffix for path in place.copies.iterdir()] == [".partial"]

"""Prefetching brings heads from the SSD, and stands in nobody's way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kindling.checkpoint import Manifest
from kindling.platform.errors import NotFoundError
from kindling.platform.rpc.channel import remote_errors
from kindling.storage.app import StorageNode
from kindling.storage.domain.tier import Tier
from kindling.storage.ports import SsdCopy, SsdStore
from kindling.v1 import storage_pb2
from support.storage_checkpoint import CHUNK_BYTES, flip_bit, make_checkpoint, partition_path
from support.storage_node import Place, all_released, open_checkpoint, storage_node

DONE = storage_pb2.PREFETCH_OUTCOME_DONE
YIELDED = storage_pb2.PREFETCH_OUTCOME_YIELDED
NO_ROOM = storage_pb2.PREFETCH_OUTCOME_NO_ROOM
NO_COPY = storage_pb2.PREFETCH_OUTCOME_NO_COPY
ALL = 1 << 40


class WatchedSsd:
    """The cache directory, with the reads that were begun in order; those of ``held`` chunks wait for ``gate``."""

    def __init__(self, inner: SsdStore) -> None:
        self._inner = inner
        self.reads: list[tuple[str, int]] = []
        self.held: set[tuple[str, int]] = set()
        self.reached, self.gate = asyncio.Event(), asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def open(self, manifest: Manifest) -> "WatchedCopy":
        return WatchedCopy(await self._inner.open(manifest), manifest.digest, self)


class WatchedCopy:
    def __init__(self, inner: SsdCopy, digest: str, ssd: WatchedSsd) -> None:
        self._inner = inner
        self._digest = digest
        self._ssd = ssd

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def read_chunk(self, chunk: int, into: memoryview, *, cached: bool = False) -> None:
        self._ssd.reads.append((self._digest, chunk))
        if (self._digest, chunk) in self._ssd.held:
            self._ssd.reached.set()
            await asyncio.shield(self._ssd.gate.wait())
        await self._inner.read_chunk(chunk, into, cached=cached)


def prefetch(stub: Any, manifest: Manifest, *give_way: Manifest, head: int = ALL, limit: int = ALL) -> Any:
    request = storage_pb2.PrefetchCheckpointRequest(
        digest=manifest.digest,
        head_bytes=head,
        unused_limit_bytes=limit,
        give_way_digests=[other.digest for other in give_way],
    )
    return stub.PrefetchCheckpoint(request)


@asynccontextmanager
async def node_with(place: Place, *manifests: Manifest, **settings: Any) -> AsyncIterator[tuple[StorageNode, Any]]:
    """A node that has the checkpoints on its SSD and not in DRAM; its reads are watched from then on."""
    async with storage_node(place) as (node, stub):
        for manifest in manifests:
            async with open_checkpoint(stub, manifest.digest) as lease:
                await lease.loaded()
            await all_released(node)
    async with storage_node(place, **settings) as (node, stub):
        node.tiers.ssd = WatchedSsd(node.tiers.ssd)
        yield node, stub
        node.tiers.pool.check_integrity()
        node.tiers.ledger.check_integrity()
        assert node.tiers.pool.pinned_bytes == node.tiers.ledger.pinned_bytes == 0


async def test_a_head_is_brought_and_the_next_load_reads_the_rest(place: Place) -> None:
    manifest = make_checkpoint(place.remote, chunks=6)
    async with node_with(place, manifest) as (node, stub):
        answer = await prefetch(stub, manifest, head=2 * CHUNK_BYTES + 1)
        assert (answer.outcome, answer.prefetched_bytes) == (DONE, 3 * CHUNK_BYTES)
        node.tiers.ssd.reads.clear()
        async with open_checkpoint(stub, manifest.digest) as lease:
            await lease.loaded()
            memory = await asyncio.to_thread(lease.take_memory)
            assert memory.content() == partition_path(place.remote, manifest).read_bytes()
            memory.close()
        assert sorted(node.tiers.ssd.reads) == [(manifest.digest, chunk) for chunk in (3, 4, 5)]
        counts = (await stub.GetStorageStatus(storage_pb2.GetStorageStatusRequest())).prefetch
        assert (counts.prefetched_bytes, counts.hits, counts.hit_bytes) == (3 * CHUNK_BYTES, 1, 3 * CHUNK_BYTES)
        assert (counts.misses, counts.wasted_bytes) == (0, 0)
        await all_released(node)


async def test_a_load_stops_a_prefetch_after_the_chunk_in_flight(place: Place) -> None:
    expected, wanted = (make_checkpoint(place.remote, chunks=6, seed=seed) for seed in (1, 2))
    # Just enough for one of them: the load needs every buffer that the prefetch has.
    async with node_with(place, expected, wanted, pool_bytes=6 * CHUNK_BYTES) as (node, stub):
        ssd = node.tiers.ssd
        ssd.held = {(expected.digest, 2)}
        early = asyncio.ensure_future(prefetch(stub, expected))
        await ssd.reached.wait()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_load(stub, wanted))
            assert (await early_end(node, ssd, early)).outcome == YIELDED
        assert [digest for digest, _ in ssd.reads] == [expected.digest] * 3 + [wanted.digest] * 6
        await all_released(node)


async def early_end(node: StorageNode, ssd: WatchedSsd, early: Any) -> Any:
    """What a prefetch answers whose chunk in flight arrives once the load has asked for its turn."""
    turn = node.use_cases.opens.prefetches
    cleared, clear = asyncio.Event(), turn.clear

    async def watched_clear() -> None:
        cleared.set()
        await clear()

    turn.clear = watched_clear  # type: ignore[method-assign]
    await cleared.wait()
    ssd.gate.set()
    return await early


async def _load(stub: Any, manifest: Manifest) -> None:
    async with open_checkpoint(stub, manifest.digest) as lease:
        await lease.loaded()


async def test_a_load_of_the_same_checkpoint_goes_on_from_what_was_prefetched(place: Place) -> None:
    manifest = make_checkpoint(place.remote, chunks=6)
    async with node_with(place, manifest) as (node, stub):
        ssd = node.tiers.ssd
        ssd.held = {(manifest.digest, 2)}
        early = asyncio.ensure_future(prefetch(stub, manifest))
        await ssd.reached.wait()
        ssd.held = set()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_load(stub, manifest))
            ssd.gate.set()
        await early
        assert {chunk for _, chunk in ssd.reads[3:]} <= {2, 3, 4, 5}, "what was there is not read again"
        assert node.tiers.pool.tally.hits == 1
        await all_released(node)


async def test_on_a_slow_disk_a_load_reads_nothing_but_its_own_once_it_has_begun(place: Place) -> None:
    expected, wanted = (make_checkpoint(place.remote, chunks=8, seed=seed) for seed in (1, 2))
    # A chunk takes 33 ms: the whole prefetch a quarter of a second.
    async with node_with(place, expected, wanted, ssd_read_limit=2_000_000) as (node, stub):
        ssd = node.tiers.ssd
        ssd.held = {(expected.digest, 2)}
        ssd.gate.set()
        early = asyncio.ensure_future(prefetch(stub, expected))
        await ssd.reached.wait()
        async with open_checkpoint(stub, wanted.digest) as lease:
            assert (await early).outcome == YIELDED
            begun = len(ssd.reads)
            report = await lease.loaded()
        assert {digest for digest, _ in ssd.reads[begun:]} <= {wanted.digest}
        (flow,) = report.traffic
        assert flow.bytes == wanted.total_bytes
        assert node.tiers.pool.filled_chunks(expected.digest) < 8, "the prefetch was cut short"
        assert node.tiers.pool.filled_chunks(expected.digest) >= 2, "what was there stays"
        await all_released(node)


async def test_nothing_is_prefetched_while_something_loads(place: Place) -> None:
    expected, wanted = (make_checkpoint(place.remote, seed=seed) for seed in (1, 2))
    async with node_with(place, expected, wanted) as (node, stub):
        ssd = node.tiers.ssd
        ssd.held = {(wanted.digest, 0)}
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_load(stub, wanted))
            await ssd.reached.wait()
            answer = await prefetch(stub, expected)
            ssd.gate.set()
        assert (answer.outcome, answer.prefetched_bytes) == (YIELDED, 0)
        await all_released(node)


async def test_a_hit_in_dram_neither_stops_a_prefetch_nor_waits_for_it(place: Place) -> None:
    expected, resident = (make_checkpoint(place.remote, seed=seed) for seed in (1, 2))
    async with node_with(place, expected, resident) as (node, stub):
        await _load(stub, resident)
        await all_released(node)
        ssd = node.tiers.ssd
        ssd.held = {(expected.digest, 1)}
        early = asyncio.ensure_future(prefetch(stub, expected))
        await ssd.reached.wait()
        await _load(stub, resident)
        await all_released(node)
        ssd.gate.set()
        assert (await early).outcome == DONE


async def test_a_caller_that_goes_away_stops_the_prefetch(place: Place) -> None:
    manifest = make_checkpoint(place.remote, chunks=6)
    async with node_with(place, manifest) as (node, stub):
        ssd = node.tiers.ssd
        ssd.held = {(manifest.digest, 2)}
        call = prefetch(stub, manifest)
        early = asyncio.ensure_future(call)
        await ssd.reached.wait()
        call.cancel()
        ssd.gate.set()
        with pytest.raises(asyncio.CancelledError):
            await early
        while (answer := await prefetch(stub, manifest, head=CHUNK_BYTES)).outcome == YIELDED:
            pass  # the first one is still letting go
        assert answer.outcome == DONE
        assert node.tiers.pool.filled_chunks(manifest.digest) in {2, 3}


async def test_an_eviction_in_the_middle_ends_the_prefetch(place: Place) -> None:
    manifest = make_checkpoint(place.remote, chunks=6)
    async with node_with(place, manifest) as (node, stub):
        ssd = node.tiers.ssd
        ssd.held = {(manifest.digest, 2)}
        early = asyncio.ensure_future(prefetch(stub, manifest))
        await ssd.reached.wait()
        async with asyncio.TaskGroup() as tasks:
            evicting = tasks.create_task(node.use_cases.evicts.evict(manifest.digest, Tier.SSD))
            await asyncio.sleep(0)  # now it waits for the chunk in flight
            ssd.gate.set()
        assert evicting.result().dropped_bytes == 3 * CHUNK_BYTES
        assert (await early).outcome == YIELDED
        assert node.tiers.pool.filled_chunks(manifest.digest) == 0
        assert (node.tiers.pool.tally.misses, node.tiers.pool.tally.wasted_bytes) == (1, 3 * CHUNK_BYTES)


async def test_only_those_named_make_room(place: Place) -> None:
    expected, colder = (make_checkpoint(place.remote, chunks=4, seed=seed) for seed in (1, 2))
    async with node_with(place, expected, colder, pool_bytes=5 * CHUNK_BYTES) as (node, stub):
        await _load(stub, colder)
        await all_released(node)
        answer = await prefetch(stub, expected)
        assert (answer.outcome, answer.prefetched_bytes) == (NO_ROOM, CHUNK_BYTES)
        answer = await prefetch(stub, expected, colder, head=3 * CHUNK_BYTES)
        assert (answer.outcome, answer.prefetched_bytes) == (DONE, 2 * CHUNK_BYTES)
        assert node.tiers.pool.filled_chunks(colder.digest) == 2
        async with open_checkpoint(stub, colder.digest):
            answer = await prefetch(stub, expected, colder, limit=0)
            assert answer.outcome in {NO_ROOM, YIELDED}
        await all_released(node)


async def test_a_bound_on_unused_bytes_holds(place: Place) -> None:
    manifest = make_checkpoint(place.remote)
    async with node_with(place, manifest) as (_, stub):
        answer = await prefetch(stub, manifest, limit=2 * CHUNK_BYTES)
        assert (answer.outcome, answer.prefetched_bytes) == (NO_ROOM, 2 * CHUNK_BYTES)


async def test_what_cannot_be_read_from_the_ssd_is_left_to_loads(place: Place) -> None:
    remote_only, damaged = (make_checkpoint(place.remote, seed=seed) for seed in (1, 2))
    async with node_with(place, damaged) as (node, stub):
        assert (await prefetch(stub, remote_only)).outcome == NO_COPY
        flip_bit(partition_path(place.copies, damaged), CHUNK_BYTES + 5)
        answer = await prefetch(stub, damaged)
        assert (answer.outcome, answer.prefetched_bytes) == (NO_COPY, CHUNK_BYTES)
        async with open_checkpoint(stub, damaged.digest) as lease:
            await lease.loaded()  # and repairs it
        await all_released(node)
        with pytest.raises(NotFoundError), remote_errors("storage"):
            await stub.PrefetchCheckpoint(
                storage_pb2.PrefetchCheckpointRequest(digest="blake3:" + "0" * 64, head_bytes=1)
            )


async def test_a_bound_on_the_rate_is_kept(place: Place) -> None:
    manifest = make_checkpoint(place.remote, chunks=4, tail_bytes=CHUNK_BYTES)
    async with node_with(place, manifest) as (_, stub):
        request = storage_pb2.PrefetchCheckpointRequest(
            digest=manifest.digest, head_bytes=ALL, unused_limit_bytes=ALL, bytes_per_second=20 * CHUNK_BYTES
        )
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert (await stub.PrefetchCheckpoint(request)).outcome == DONE
        assert loop.time() - began >= 4 / 20

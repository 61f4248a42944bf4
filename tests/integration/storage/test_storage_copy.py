"""Prefetching copies checkpoints from the remote store to the SSD, and stands in nobody's way."""

import asyncio
from typing import Any

import pytest

from kindling.checkpoint import Manifest
from kindling.platform.errors import DataLossError, NotFoundError, UnavailableError
from kindling.platform.rpc.channel import remote_errors
from kindling.storage.app import StorageNode
from kindling.storage.domain.prefetch_tally import PrefetchTally
from kindling.storage.domain.tier import Tier
from kindling.storage.ports import ChunkSource, RemoteStore
from kindling.v1 import checkpoint_pb2, storage_pb2
from support.storage_checkpoint import CHUNK_BYTES, make_checkpoint
from support.storage_node import Place, all_released, open_checkpoint, storage_node

DONE = storage_pb2.PREFETCH_OUTCOME_DONE
YIELDED = storage_pb2.PREFETCH_OUTCOME_YIELDED
NO_ROOM = storage_pb2.PREFETCH_OUTCOME_NO_ROOM
NO_COPY = storage_pb2.PREFETCH_OUTCOME_NO_COPY
ALL = 1 << 40
CHUNKS = 6


class WatchedRemote:
    """The remote store; from chunk ``held`` on, reads wait for ``gate``, or fail with ``error``."""

    def __init__(self, inner: RemoteStore) -> None:
        self._inner = inner
        self.held: int = 1 << 20
        self.error: Exception | None = None
        self.reads: list[tuple[str, int]] = []
        self.reached, self.gate = asyncio.Event(), asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def open(self, manifest: Manifest) -> "WatchedSource":
        return WatchedSource(await self._inner.open(manifest), manifest.digest, self)


class WatchedSource:
    def __init__(self, inner: ChunkSource, digest: str, remote: WatchedRemote) -> None:
        self._inner = inner
        self._digest = digest
        self._remote = remote

    def close(self) -> None:
        self._inner.close()

    async def read_chunk(self, chunk: int, into: memoryview, *, cached: bool = False) -> None:
        self._remote.reads.append((self._digest, chunk))
        if chunk >= self._remote.held:
            self._remote.reached.set()
            if self._remote.error is not None:
                raise self._remote.error
            await self._remote.gate.wait()
        await self._inner.read_chunk(chunk, into, cached=cached)


def watch(node: StorageNode) -> WatchedRemote:
    remote = WatchedRemote(node.tiers.remote)
    node.tiers.remote = remote  # type: ignore[assignment]
    return remote


def copy(stub: Any, manifest: Manifest, *give_way: Manifest, limit: int = ALL) -> Any:
    request = storage_pb2.PrefetchCheckpointRequest(
        digest=manifest.digest,
        unused_limit_bytes=limit,
        give_way_digests=[other.digest for other in give_way],
        to=checkpoint_pb2.TIER_SSD,
    )
    return stub.PrefetchCheckpoint(request)


async def test_a_copy_is_whole_and_the_next_start_reads_it(place: Place) -> None:
    manifest = make_checkpoint(place.remote, chunks=CHUNKS)
    async with storage_node(place) as (node, stub):
        answer = await copy(stub, manifest)
        assert (answer.outcome, answer.prefetched_bytes) == (DONE, manifest.total_bytes)
        assert (await copy(stub, manifest)).prefetched_bytes == 0, "it is there"
        status = await stub.GetStorageStatus(storage_pb2.GetStorageStatusRequest())
        assert status.prefetch_to_ssd.prefetched_bytes == manifest.total_bytes
        assert not status.prefetch.prefetched_bytes
        remote = watch(node)
        async with open_checkpoint(stub, manifest.digest) as lease:
            report = await lease.loaded()
            memory = await asyncio.to_thread(lease.take_memory)
            memory.close()
        (flow,) = report.traffic
        assert flow.bytes == manifest.total_bytes
        assert remote.reads == []
        await all_released(node)
        total = manifest.total_bytes
        assert node.tiers.ledger.tally == PrefetchTally(total, hits=1, hit_bytes=total)
        verdict = [event async for event in stub.VerifyCheckpoint(_verify(manifest))][-1].verified
        assert [tier.tier for tier in verdict.tiers if tier.bad_chunks] == []


def _verify(manifest: Manifest) -> storage_pb2.VerifyCheckpointRequest:
    return storage_pb2.VerifyCheckpointRequest(digest=manifest.digest)


@pytest.mark.parametrize("is_same", [True, False])
async def test_a_load_cuts_a_copy_short_without_waiting_and_goes_on_with_what_is_there(
    place: Place, is_same: bool
) -> None:
    expected, other = (make_checkpoint(place.remote, chunks=CHUNKS, seed=seed) for seed in (1, 2))
    wanted = expected if is_same else other
    async with storage_node(place) as (node, stub):
        remote = watch(node)
        remote.held = 3
        call = asyncio.ensure_future(copy(stub, expected))
        await remote.reached.wait()
        remote.held = 1 << 20  # for others; the read under way never ends
        async with open_checkpoint(stub, wanted.digest) as lease:
            report = await lease.loaded()
        assert (await call).outcome == YIELDED
        by_tier = {getattr(flow, "from"): flow.bytes for flow in report.traffic}
        written = 3 * CHUNK_BYTES if is_same else 0
        assert by_tier.get(checkpoint_pb2.TIER_SSD, 0) == written
        assert by_tier[checkpoint_pb2.TIER_REMOTE] == wanted.total_bytes - written
        await all_released(node)
        before = len(remote.reads)
        answer = await copy(stub, expected)
        assert answer.outcome == DONE
        assert len(remote.reads) - before == (0 if is_same else len(expected_chunks(expected)) - 3)
        assert node.tiers.ledger.has(expected.digest)


def expected_chunks(manifest: Manifest) -> range:
    return range(-(-manifest.total_bytes // CHUNK_BYTES))


async def test_nothing_is_copied_while_something_loads(place: Place) -> None:
    expected, wanted = (make_checkpoint(place.remote, chunks=CHUNKS, seed=seed) for seed in (1, 2))
    async with storage_node(place) as (node, stub):
        remote = watch(node)
        remote.held = 2
        async with open_checkpoint(stub, wanted.digest) as lease:
            await remote.reached.wait()
            answer = await copy(stub, expected)
            assert (answer.outcome, answer.prefetched_bytes) == (YIELDED, 0)
            remote.gate.set()
            await lease.loaded()
        await all_released(node)


async def test_only_those_named_make_room_and_not_for_what_is_beyond_the_bound(place: Place) -> None:
    expected, cold, warm = (make_checkpoint(place.remote, chunks=CHUNKS, seed=seed) for seed in (1, 2, 3))
    size = expected.total_bytes
    async with storage_node(place, cache_bytes=2 * size + CHUNK_BYTES) as (node, stub):
        for manifest in (cold, warm):
            assert (await copy(stub, manifest)).outcome == DONE
        assert (await copy(stub, expected)).outcome == NO_ROOM
        assert (await copy(stub, expected, cold, limit=3 * size - 1)).outcome == NO_ROOM
        assert set(node.tiers.ledger.digests()) == {cold.digest, warm.digest}, "nothing is dropped in vain"
        assert (await copy(stub, expected, cold)).outcome == DONE
        assert set(node.tiers.ledger.digests()) == {expected.digest, warm.digest}
        tally = node.tiers.ledger.tally
        assert (tally.prefetched_bytes, tally.misses, tally.wasted_bytes) == (3 * size, 1, size)
        node.tiers.ledger.check_integrity()


async def test_an_eviction_in_the_middle_ends_the_copy(place: Place) -> None:
    manifest = make_checkpoint(place.remote, chunks=CHUNKS)
    async with storage_node(place) as (node, stub):
        remote = watch(node)
        remote.held = 3
        call = asyncio.ensure_future(copy(stub, manifest))
        await remote.reached.wait()
        await stub.DeleteCheckpoint(storage_pb2.DeleteCheckpointRequest(digest=manifest.digest))
        remote.gate.set()
        assert (await call).outcome in {YIELDED, NO_COPY}
        assert not node.tiers.ledger.used_bytes
        assert list(place.copies.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [UnavailableError("the store is away", reason="REMOTE_UNAVAILABLE"), DataLossError("bad", reason="CHUNK_CORRUPT")],
)
async def test_trouble_with_the_store_ends_the_copy_and_what_came_stays(place: Place, error: Exception) -> None:
    manifest = make_checkpoint(place.remote, chunks=CHUNKS)
    async with storage_node(place) as (node, stub):
        remote = watch(node)
        remote.held, remote.error = 3, error
        answer = await copy(stub, manifest)
        assert (answer.outcome, answer.prefetched_bytes) == (NO_COPY, 3 * CHUNK_BYTES)
        remote.error, remote.held = None, 1 << 20
        answer = await copy(stub, manifest)
        assert (answer.outcome, answer.prefetched_bytes) == (DONE, manifest.total_bytes - 3 * CHUNK_BYTES)
        assert not node.tiers.ledger.pinned_bytes


async def test_heads_come_to_dram_while_copies_come_to_the_ssd(place: Place) -> None:
    head, copied = (make_checkpoint(place.remote, chunks=CHUNKS, seed=seed) for seed in (1, 2))
    async with storage_node(place) as (node, stub):
        assert (await copy(stub, head)).outcome == DONE
        remote = watch(node)
        remote.held = 0
        call = asyncio.ensure_future(copy(stub, copied))
        await remote.reached.wait()
        to_dram = storage_pb2.PrefetchCheckpointRequest(digest=head.digest, head_bytes=ALL, unused_limit_bytes=ALL)
        assert (await stub.PrefetchCheckpoint(to_dram)).outcome == DONE
        remote.gate.set()
        assert (await call).outcome == DONE
        assert node.tiers.pool.holds_all(head.digest)
        assert {tier.tier for tier in node.tiers.residency(copied.digest)} == {Tier.SSD}


async def test_a_bound_on_the_rate_is_kept_and_an_unknown_checkpoint_is_refused(place: Place) -> None:
    manifest = make_checkpoint(place.remote, chunks=4, tail_bytes=CHUNK_BYTES)
    async with storage_node(place) as (_, stub):
        request = storage_pb2.PrefetchCheckpointRequest(
            digest=manifest.digest,
            unused_limit_bytes=ALL,
            bytes_per_second=20 * CHUNK_BYTES,
            to=checkpoint_pb2.TIER_SSD,
        )
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert (await stub.PrefetchCheckpoint(request)).outcome == DONE
        assert loop.time() - began >= 4 / 20
        request.digest = "blake3:" + "0" * 64
        with pytest.raises(NotFoundError), remote_errors("storage"):
            await stub.PrefetchCheckpoint(request)

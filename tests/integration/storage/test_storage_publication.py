"""What the cluster sees of an eviction, and when."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from kindling.platform.etcd import EtcdClient
from kindling.platform.etcd_records import residency_key
from kindling.platform.rpc.channel import open_channel
from kindling.v1 import checkpoint_pb2, storage_pb2, storage_pb2_grpc
from support.etcd_server import EtcdServer, running_etcd
from support.storage_checkpoint import CHUNK_BYTES, make_checkpoint
from support.storage_node import Place, open_checkpoint
from support.storage_process import storage_process

PREFIX = "/kindling/v1/"


@pytest.fixture(scope="module")
def etcd_server() -> Iterator[EtcdServer]:
    with running_etcd() as server:
        yield server


@pytest.fixture
async def etcd(etcd_server: EtcdServer) -> AsyncIterator[EtcdClient]:
    async with EtcdClient([etcd_server.endpoint]) as client:
        yield client


async def evict(stub: Any, digest: str) -> int:
    """Evict from every tier of the node, as soon as the lease is seen to have ended; return the bytes dropped."""
    request = storage_pb2.EvictCheckpointRequest(digest=digest, keep=checkpoint_pb2.TIER_REMOTE)
    while (answer := await stub.EvictCheckpoint(request)).pinned_bytes:
        pass
    return answer.dropped_bytes


async def load(stub: Any, digest: str) -> None:
    """Load a checkpoint, and return once the lease is seen to have ended."""
    async with open_checkpoint(stub, digest) as lease:
        await lease.loaded()
    while (await stub.GetStorageStatus(storage_pb2.GetStorageStatusRequest())).leases:
        pass


async def until_written(stub: Any, size_bytes: int) -> None:
    """Return once the SSD holds so much, and nothing is being written: what is, cannot make room for another."""
    async with asyncio.timeout(20):
        while True:
            status = await stub.GetStorageStatus(storage_pb2.GetStorageStatusRequest())
            (ssd,) = (tier for tier in status.tiers if tier.tier == checkpoint_pb2.TIER_SSD)
            if ssd.used_bytes >= size_bytes and not ssd.pinned_bytes:
                return


async def until_known(etcd: EtcdClient, key: str, *, there: bool) -> None:
    """Return once etcd has a record at the key, or none."""
    async with asyncio.timeout(10):
        async for _ in etcd.watch_key(key):
            if (await etcd.get(key) is not None) == there:
                return


async def test_an_eviction_is_answered_when_etcd_knows_of_it(
    place: Place, etcd: EtcdClient, etcd_server: EtcdServer
) -> None:
    manifest = make_checkpoint(place.remote)
    key = residency_key(PREFIX, "node-a", manifest.digest)
    # Left to itself, the node would publish nothing for half a minute.
    settings = {"etcd_endpoints": etcd_server.endpoint, "publish_interval_seconds": 30.0}
    async with storage_process(place, **settings) as storage, open_channel(storage.address) as channel:
        stub = storage_pb2_grpc.StorageServiceStub(channel)
        for _ in range(3):
            async with open_checkpoint(stub, manifest.digest) as lease:
                await lease.loaded()
            assert await evict(stub, manifest.digest) == 2 * manifest.total_bytes
            assert await etcd.get(key) is None


async def test_an_eviction_is_answered_all_the_same_while_etcd_is_away(place: Place) -> None:
    manifest = make_checkpoint(place.remote)
    async with (
        storage_process(place, etcd_endpoints="127.0.0.1:1") as storage,
        open_channel(storage.address) as channel,
    ):
        stub = storage_pb2_grpc.StorageServiceStub(channel)
        async with open_checkpoint(stub, manifest.digest) as lease:
            await lease.loaded()
        async with asyncio.timeout(20):
            assert await evict(stub, manifest.digest) == 2 * manifest.total_bytes


async def test_what_made_room_for_another_is_told_too(place: Place, etcd: EtcdClient, etcd_server: EtcdServer) -> None:
    first, second = (make_checkpoint(place.remote, chunks=6, seed=seed) for seed in (1, 2))
    # Each tier has room for one of them.
    room = {"pool_bytes": 6 * CHUNK_BYTES, "cache_bytes": first.total_bytes + CHUNK_BYTES}
    settings = {"etcd_endpoints": etcd_server.endpoint} | room
    async with storage_process(place, **settings) as storage, open_channel(storage.address) as channel:
        stub = storage_pb2_grpc.StorageServiceStub(channel)
        key = residency_key(PREFIX, "node-a", first.digest)
        await load(stub, first.digest)
        await until_known(etcd, key, there=True)
        await until_written(stub, first.total_bytes)
        await load(stub, second.digest)
        await until_known(etcd, key, there=False)

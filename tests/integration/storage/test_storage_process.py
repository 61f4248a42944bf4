"""The storage manager and its workers as real processes, with etcd, killed and stopped."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator

import pytest

from kindling.platform.etcd import EtcdClient
from kindling.platform.etcd_records import decode_record, node_key, residency_key
from kindling.platform.rpc.channel import open_channel
from kindling.v1 import checkpoint_pb2, state_pb2, storage_pb2_grpc
from support.etcd_server import EtcdServer, running_etcd
from support.storage_checkpoint import make_checkpoint, partition_path
from support.storage_node import Place, all_released, open_checkpoint, storage_node
from support.storage_process import environment, storage_process, worker_process

PREFIX = "/kindling/v1/"


@pytest.fixture(scope="module")
def etcd_server() -> Iterator[EtcdServer]:
    with running_etcd() as server:
        yield server


@pytest.fixture
async def etcd(etcd_server: EtcdServer) -> AsyncIterator[EtcdClient]:
    async with EtcdClient([etcd_server.endpoint]) as client:
        yield client


async def node_record(etcd: EtcdClient) -> state_pb2.NodeRecord:
    """Return the node's record as soon as it is there."""
    key = node_key(PREFIX, "node-a")
    async for _ in etcd.watch(key):
        if item := await etcd.get(key):
            return decode_record(state_pb2.NodeRecord, item.value)
    raise AssertionError("the watch ended")


async def wait_for(etcd: EtcdClient, key: str, tiers: set[int]) -> None:
    """Return when the residency record at ``key`` names exactly these tiers; none: when it is gone."""
    async for _ in etcd.watch(key):
        item = await etcd.get(key)
        record = decode_record(state_pb2.ResidencyRecord, item.value) if item else state_pb2.ResidencyRecord()
        if {held.tier for held in record.tiers} == tiers:
            return


@pytest.mark.faults
async def test_a_killed_worker_gives_its_pins_back(place: Place) -> None:
    manifest = make_checkpoint(place.remote)
    async with (
        storage_node(place) as (node, _),
        worker_process(node.server.address, manifest.digest) as worker,
    ):
        assert node.tiers.pool.pinned_bytes == manifest.total_bytes
        worker.kill()
        await all_released(node)
        assert (node.tiers.pool.pinned_bytes, node.use_cases.opens.leases()) == (0, ())


@pytest.mark.faults
async def test_node_and_residency_are_in_etcd_until_the_process_ends(
    place: Place, etcd: EtcdClient, etcd_server: EtcdServer
) -> None:
    manifest = make_checkpoint(place.remote)
    key = residency_key(PREFIX, "node-a", manifest.digest)
    async with storage_process(place, etcd_endpoints=etcd_server.endpoint) as storage:
        record = await node_record(etcd)
        assert record.storage_address == storage.address
        assert [tier.tier for tier in record.tiers] == [2, 3, 4]
        async with open_channel(storage.address) as channel:
            stub = storage_pb2_grpc.StorageServiceStub(channel)
            async with open_checkpoint(stub, manifest.digest) as lease:
                await lease.loaded()
                await wait_for(etcd, key, {checkpoint_pb2.TIER_DRAM, checkpoint_pb2.TIER_SSD})
                exit_code = asyncio.create_task(storage.terminate())
                assert (await lease.next_event()).HasField("closed")
                assert await exit_code == 0
        assert await etcd.get(node_key(PREFIX, "node-a")) is None
        assert await etcd.get(key) is None


@pytest.mark.faults
async def test_a_killed_storage_manager_comes_back_with_what_was_sealed(
    place: Place, etcd: EtcdClient, etcd_server: EtcdServer
) -> None:
    sealed, half = make_checkpoint(place.remote, seed=1), make_checkpoint(place.remote, seed=2)
    expected = partition_path(place.remote, sealed).read_bytes()
    endpoints = {"etcd_endpoints": etcd_server.endpoint, "lease_ttl_seconds": 1.0}
    async with storage_process(place, **endpoints) as storage, open_channel(storage.address) as channel:
        stub = storage_pb2_grpc.StorageServiceStub(channel)
        async with open_checkpoint(stub, sealed.digest) as lease:
            memory = await asyncio.to_thread(lease.take_memory)
            await lease.loaded()
            await wait_for(
                etcd,
                residency_key(PREFIX, "node-a", sealed.digest),
                {checkpoint_pb2.TIER_DRAM, checkpoint_pb2.TIER_SSD},
            )
            await storage.kill()
            assert memory.content() == expected, "a worker keeps what it has mapped"
            memory.close()
    leftover = place.copies / (partition_path(place.remote, half).parent.name + ".partial")
    leftover.mkdir()
    async with storage_process(place, **endpoints) as storage, open_channel(storage.address) as channel:
        assert not leftover.exists()
        await wait_for(etcd, residency_key(PREFIX, "node-a", sealed.digest), {checkpoint_pb2.TIER_SSD})
        async with open_checkpoint(storage_pb2_grpc.StorageServiceStub(channel), sealed.digest) as lease:
            report = await lease.loaded()
            assert [getattr(flow, "from") for flow in report.traffic] == [checkpoint_pb2.TIER_SSD]


async def test_bad_settings_are_a_start_up_error_that_names_them(place: Place) -> None:
    variables = environment(place) | {"KINDLING_STORAGE_POOL_BYTES": "lots"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "kindling.storage", env=variables, stderr=asyncio.subprocess.PIPE
    )
    _, message = await process.communicate()
    assert process.returncode == 78
    assert b"KINDLING_STORAGE_POOL_BYTES" in message


async def test_the_process_stays_lean(place: Place) -> None:
    code = "import kindling.storage.app, sys; print({'torch', 'transformers'} & set(sys.modules))"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, env=environment(place), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert output.strip() == b"set()"

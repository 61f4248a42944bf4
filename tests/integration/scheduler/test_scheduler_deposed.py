"""A leader that is deposed stops acting at once, tells those who wait, and can lead again."""

import asyncio

import pytest

from kindling.platform.errors import FailedPreconditionError
from kindling.platform.etcd_records import leader_key
from kindling.v1 import checkpoint_pb2
from support.scheduler_cluster import Client, Cluster


async def test_a_deposed_leader_tells_those_who_wait_and_comes_back(cluster: Cluster) -> None:
    await cluster.add_model("m")
    client = await cluster.start_scheduler("s1")
    address = await cluster.leader()
    held = asyncio.ensure_future(client.granted("m"))
    while not (await client.status()).models:
        pass

    await cluster.etcd.delete(leader_key(cluster.prefix))
    with pytest.raises(FailedPreconditionError) as told:
        await held
    back = await cluster.leader()

    assert told.value.reason == "NOT_LEADER"
    assert back == address
    assert (await client.status()).leader_id == "s1"
    assert [model.name for model in (await client.status()).models] == ["m"]


async def test_after_a_change_of_leader_every_scheduler_points_at_the_same_one(cluster: Cluster) -> None:
    first = await cluster.start_scheduler("s1")
    standby = await cluster.start_standby("s2")
    assert (await first.status()).leader_id == "s1"

    await cluster.etcd.delete(leader_key(cluster.prefix))  # the standby has waited longer, but either may win
    leader = await cluster.leader()

    async with asyncio.timeout(10):
        while {await points_at(first), await points_at(standby)} != {leader}:
            leader = await cluster.leader()
    assert await cluster.keys("scheduler") == ["leader"]


async def points_at(client: Client) -> str:
    try:
        return str((await client.status()).leader_address)
    except FailedPreconditionError as error:
        return error.metadata.get("leader_address", "")


async def test_an_eviction_that_waits_for_a_worker_is_told_too(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    worker = await cluster.add_worker("n1/w1")
    await cluster.add_model("m")
    client = await cluster.start_scheduler("s1")
    await client.granted("m", "g1")
    await client.release("g1")
    worker.stops_released.clear()
    evicting = asyncio.ensure_future(client.evict("m", checkpoint_pb2.TIER_SSD))
    await worker.until(lambda: worker.stop_calls)

    await cluster.etcd.delete(leader_key(cluster.prefix))
    async with asyncio.timeout(10):
        with pytest.raises(FailedPreconditionError) as told:
            await evicting

    assert told.value.reason == "NOT_LEADER"
    worker.stops_released.set()


async def test_a_new_leader_tells_storage_managers_of_itself_before_it_asks_for_anything(cluster: Cluster) -> None:
    storage = await cluster.add_node("n1")
    await cluster.start_scheduler("s1")
    await storage.introduced.wait()
    storage.introduced.clear()
    await cluster.etcd.delete(leader_key(cluster.prefix))
    await cluster.leader()
    await storage.introduced.wait()
    revisions = [revision for _, revision in storage.leader_revisions]
    assert revisions == sorted(revisions)
    assert 0 < revisions[0] < revisions[-1]


async def test_what_a_storage_manager_is_asked_says_by_which_leader(cluster: Cluster) -> None:
    storage = await cluster.add_node("n1")
    client = await cluster.start_scheduler("s1")
    await client.deploy("m")
    await client.evict("m", checkpoint_pb2.TIER_SSD)
    await client.delete("m")
    await storage.deletion.wait()
    asked = {name for name, _ in storage.leader_revisions}
    assert {"Import", "Evict", "Delete", "Status"} <= asked
    (revision,) = {revision for _, revision in storage.leader_revisions}
    assert revision > 0

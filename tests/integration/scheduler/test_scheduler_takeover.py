"""Schedulers as processes: killed at the worst moment, followed by a standby."""

import asyncio

import pytest

from kindling.v1 import cluster_pb2
from support.scheduler_cluster import Client, Cluster
from support.scheduler_processes import scheduler_process

LEASE_SECONDS = 2.0  # some of these tests wait for the end of one

pytestmark = pytest.mark.faults


async def test_a_standby_takes_over_what_a_killed_leader_had_decided(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    worker = await cluster.add_worker("n1/w1")
    other = await cluster.add_worker("n1/w2")
    await cluster.add_model("m", max_instances=1)
    worker.hold()
    other.hold()
    async with scheduler_process(cluster, "s1") as (leader, address):
        assert await cluster.leader() == address
        client = await cluster.client_of(address)
        call = client.acquire("m", "g1")
        async for event in call:
            if event.HasField("starting") and event.starting.progress.total_bytes:
                break
        async with scheduler_process(cluster, "s2") as (_, standby_address):
            leader.kill()  # it has decided and told the worker, which is still loading
            await leader.wait()

            assert await cluster.leader(unlike=address) == standby_address
            client = await cluster.client_of(standby_address)
            asking = asyncio.ensure_future(client.granted("m", "g1"))
            await worker.until(lambda: len(worker.start_calls) + len(other.start_calls) == 2)
            worker.released.set()
            other.released.set()
            granted = await asking
            await cluster.until_keys("decisions", lambda names: not names)

    starts = worker.start_calls + other.start_calls
    assert starts == [granted.instance_id] * 2, "the same start was carried on: no second instance"
    assert len(worker.instances) + len(other.instances) == 1


async def test_running_generations_survive_a_killed_leader(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    worker = await cluster.add_worker("n1/w1")
    await cluster.add_model("m", concurrency_target=2)
    async with scheduler_process(cluster, "s1") as (leader, address):
        assert await cluster.leader() == address
        first = await (await cluster.client_of(address)).granted("m", "g1")
        worker.set_generations("g1")
        async with scheduler_process(cluster, "s2") as (_, standby_address):
            leader.kill()
            await leader.wait()

            assert await cluster.leader(unlike=address) == standby_address
            client = await cluster.client_of(standby_address)
            second = await client.granted("m", "g2")
            status = await client.status()

    assert second.instance_id == first.instance_id
    assert (status.leader_id, status.instances[0].generations) == ("s2", 2)
    assert status.instances[0].state == cluster_pb2.INSTANCE_STATE_READY
    assert (len(worker.start_calls), worker.stop_calls) == (1, [])


async def test_a_scheduler_leaves_in_good_order(cluster: Cluster) -> None:
    async with scheduler_process(cluster, "s1") as (leader, address):
        assert await cluster.leader() == address
        client: Client = await cluster.client_of(address)
        assert (await client.status()).leader_id == "s1"
        leader.terminate()
        async with asyncio.timeout(10):
            assert await leader.wait() == 0
    assert await cluster.keys("scheduler") == []

"""What becomes of instances: keep-alive, minimums, eviction, workers that go, schedulers that come."""

import asyncio

import pytest

from kindling.platform.errors import UnavailableError
from kindling.v1 import cluster_pb2
from support.scheduler_cluster import Cluster

READY = cluster_pb2.INSTANCE_STATE_READY
STARTING = cluster_pb2.INSTANCE_STATE_STARTING
STOPPING = cluster_pb2.INSTANCE_STATE_STOPPING


async def test_an_instance_stops_after_keep_alive_and_the_next_request_starts_one(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    worker = await cluster.add_worker("n1/w1")
    await cluster.add_model("m")
    client = await cluster.start_scheduler(keep_alive_seconds=300)
    first = await client.granted("m", "g1")
    await client.release("g1")

    cluster.clock.advance(301)

    await worker.until(lambda: worker.stop_calls == [first.instance_id])
    await cluster.until_keys("instances", lambda names: not names)
    assert await cluster.keys("decisions") == []
    assert (await client.granted("m")).instance_id != first.instance_id


async def test_a_busy_instance_outlives_keep_alive(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    worker = await cluster.add_worker("n1/w1")
    await cluster.add_model("m")
    client = await cluster.start_scheduler(grant_ttl_seconds=10)
    granted = await client.granted("m", "g1")
    worker.set_generations("g1")
    while not await _seen(client, "g1", cluster):
        pass

    cluster.clock.advance(1000)

    assert (await client.granted("m", "g2")).instance_id == granted.instance_id
    assert worker.stop_calls == []


async def _seen(client, generation_id: str, cluster: Cluster) -> bool:
    """Whether the worker's report has arrived: the grant no longer lapses."""
    cluster.clock.advance(11)
    return (await client.status()).instances[0].generations == 1


async def test_a_minimum_is_started_ahead_of_requests_and_kept(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    workers = [await cluster.add_worker(f"n1/w{number}") for number in range(3)]
    await cluster.add_model("m", min_instances=2)
    client = await cluster.start_scheduler()
    await cluster.until_keys("instances", lambda names: len(names) == 2)

    cluster.clock.advance(1000)

    assert len((await client.status()).instances) == 2
    assert [call for worker in workers for call in worker.stop_calls] == []


async def test_an_idle_instance_makes_room_for_another_model(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    worker = await cluster.add_worker("n1/w1")
    await cluster.add_model("a", "blake3:a")
    await cluster.add_model("b", "blake3:b")
    client = await cluster.start_scheduler()
    first = await client.granted("a", "g1")
    await client.release("g1")

    second = await client.granted("b", "g2")

    assert worker.stop_calls == [first.instance_id]
    assert second.worker_address == worker.address


async def test_a_lost_worker_is_replaced(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    await cluster.add_model("m", min_instances=1)
    client = await cluster.start_scheduler()
    first = await cluster.add_worker("n1/w1")
    await first.until(lambda: first.instances)
    second = await cluster.add_worker("n1/w2")

    await cluster.remove(first)

    await second.until(lambda: second.instances)
    assert (await client.granted("m")).worker_address == second.address
    await cluster.until_keys("instances", lambda names: names == set(second.instances))


async def test_a_start_under_way_on_a_lost_worker_goes_elsewhere(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    first = await cluster.add_worker("n1/w1")
    first.hold()
    await cluster.add_model("m")
    client = await cluster.start_scheduler()
    asking = asyncio.ensure_future(client.granted("m"))
    await first.until(lambda: first.start_calls)
    second = await cluster.add_worker("n1/w2")

    await cluster.remove(first)

    assert (await asking).worker_address == second.address


async def test_a_new_leader_keeps_what_runs(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    worker = await cluster.add_worker("n1/w1")
    await cluster.add_model("m", concurrency_target=2)
    await cluster.add_instance("m-1", "n1/w1", READY)
    worker.add_instance("m-1", "m", "blake3:m", READY, "g0")

    client = await cluster.start_scheduler()

    assert (await client.granted("m")).instance_id == "m-1"
    assert (await client.status()).instances[0].generations == 2
    assert worker.start_calls == []


async def test_a_new_leader_carries_on_a_start(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    worker = await cluster.add_worker("n1/w1")
    await cluster.add_model("m")
    await cluster.add_instance("m-1", "n1/w1", STARTING)

    client = await cluster.start_scheduler()

    assert (await client.granted("m")).instance_id == "m-1"
    assert worker.start_calls == ["m-1"]


async def test_a_new_leader_finishes_a_stop(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    worker = await cluster.add_worker("n1/w1")
    await cluster.add_model("m")
    await cluster.add_instance("m-1", "n1/w1", STOPPING)
    worker.add_instance("m-1", "m", "blake3:m", STOPPING)

    await cluster.start_scheduler()

    await worker.until(lambda: worker.stop_calls == ["m-1"])
    await cluster.until_keys("instances", lambda names: not names)


async def test_a_new_leader_forgets_what_is_gone_and_stops_what_nobody_started(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    worker = await cluster.add_worker("n1/w1")
    await cluster.add_model("m")
    await cluster.add_instance("m-gone", "n1/w1", READY)
    worker.add_instance("m-stranger", "m", "blake3:m", READY)

    client = await cluster.start_scheduler()

    await worker.until(lambda: worker.stop_calls == ["m-stranger"])
    await cluster.until_keys("instances", lambda names: not names)
    granted = await client.granted("m")
    assert granted.instance_id not in ("m-gone", "m-stranger")
    assert set(worker.instances) == {granted.instance_id}


async def test_instances_of_a_worker_that_never_comes_back_are_forgotten(cluster: Cluster) -> None:
    await cluster.add_model("m")
    await cluster.add_instance("m-1", "n9/w9", READY)
    client = await cluster.start_scheduler()
    assert len((await client.status()).instances) == 1

    cluster.clock.advance(cluster.lease_seconds + 1)

    await cluster.until_keys("instances", lambda names: not names)


async def test_waiting_requests_are_told_when_the_leader_ends(cluster: Cluster) -> None:
    await cluster.add_model("m")
    client = await cluster.start_scheduler()
    asking = asyncio.ensure_future(client.granted("m"))
    while not (await client.status()).models:
        pass

    await cluster.stop_scheduler("s1")

    with pytest.raises(Exception, match=r"no longer leads|Cancelling|goaway|GOAWAY|stopped") as ended:
        await asking
    assert isinstance(ended.value, UnavailableError) or ended.value.reason == "NOT_LEADER"

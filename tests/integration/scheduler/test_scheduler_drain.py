"""Draining a node, over real gRPC and a real etcd."""

import asyncio

import pytest

from kindling.platform.errors import FailedPreconditionError, NotFoundError, UnavailableError
from kindling.platform.rpc.channel import remote_errors
from support.scheduler_cluster import Client, Cluster
from support.scheduler_fakes import FakeWorker


async def two_nodes(cluster: Cluster) -> tuple[Client, FakeWorker, FakeWorker]:
    """A model with one generation on n1/w1, and the free worker n2/w1."""
    for node_id in ("n1", "n2"):
        await cluster.add_node(node_id)
    first = await cluster.add_worker("n1/w1")
    await cluster.add_model("m")
    client = await cluster.start_scheduler()
    await client.granted("m", "g1")
    first.set_generations("g1")
    second = await cluster.add_worker("n2/w1")
    await until_workers(client, 2)
    return client, first, second


async def until_workers(client: Client, workers: int) -> None:
    async with asyncio.timeout(10):
        while sum(len(node.workers) for node in (await client.status()).nodes) != workers:
            pass


async def drained_nodes(client: Client) -> list[str]:
    return [node.node_id for node in (await client.status()).nodes if node.drained]


async def until_obstacle(call, why: str) -> None:
    """Return once that is in the way; something else may be before, such as a worker that has not told anything yet."""
    with remote_errors("scheduler"):
        async with asyncio.timeout(10):
            async for left in call:
                if why in left.obstacle:
                    return
    raise AssertionError("it was never in the way")


async def test_what_is_busy_moves_and_nothing_is_started_there_any_more(cluster: Cluster) -> None:
    client, first, second = await two_nodes(cluster)

    told = await client.drained("n1")

    assert (told[0].instances, told[0].generations) == (1, 1)
    assert (told[-1].instances, told[-1].generations, told[-1].obstacle) == (0, 0, "")
    assert [one.generations for one in second.instances.values()] == [{"g1"}]
    assert first.instances == {}
    assert await drained_nodes(client) == ["n1"]
    assert (await client.granted("m")).worker_address == second.address
    with pytest.raises(FailedPreconditionError) as refused:
        await client.migrated("m", "n1/w1")
    assert refused.value.reason == "NODE_DRAINED"


async def test_what_is_idle_stops(cluster: Cluster) -> None:
    client, first, second = await two_nodes(cluster)
    first.set_generations()
    await client.release("g1")

    await client.drained("n1")

    assert (len(first.stop_calls), first.migrate_calls, second.instances) == (1, [], {})


async def test_a_node_serves_again_once_it_is_undrained(cluster: Cluster) -> None:
    client, first, second = await two_nodes(cluster)
    await client.drained("n1")
    await client.deploy("other", "file:///models/other")

    held = asyncio.ensure_future(client.granted("other"))
    second.set_generations("g1")
    await client.undrain("n1")

    assert (await held).worker_address == first.address
    assert await drained_nodes(client) == []


async def test_without_a_place_elsewhere_it_waits_and_says_why(cluster: Cluster) -> None:
    client, _, second = await two_nodes(cluster)
    await client.deploy("other", "file:///models/other")
    await client.granted("other", "g2")  # the other worker is busy now
    second.set_generations("g2")

    call = client.draining("n1")
    await until_obstacle(call, "nowhere to go")
    third = await cluster.add_worker("n2/w2")
    with remote_errors("scheduler"):
        left = [one async for one in call]

    assert left[-1].instances == 0
    assert [one.generations for one in third.instances.values()] == [{"g1"}]


async def test_an_idle_instance_elsewhere_makes_room(cluster: Cluster) -> None:
    client, _, second = await two_nodes(cluster)
    await client.deploy("other", "file:///models/other")
    idle = await client.granted("other", "g2")
    await client.release("g2")

    await client.drained("n1")

    assert second.stop_calls == [idle.instance_id]
    assert [one.generations for one in second.instances.values()] == [{"g1"}]


async def test_a_migration_that_fails_is_tried_again_after_a_pause(cluster: Cluster) -> None:
    client, first, second = await two_nodes(cluster)
    first.migrate_errors = [UnavailableError("the line broke", reason="RPC_UNAVAILABLE")]

    call = client.draining("n1")
    await until_obstacle(call, "the line broke")
    cluster.clock.advance(2)
    with remote_errors("scheduler"):
        left = [one async for one in call]

    assert left[-1].instances == 0
    assert len(second.start_calls) == 1, "the target of the first attempt was used"


async def test_a_drain_survives_its_leader(cluster: Cluster) -> None:
    client, _, _ = await two_nodes(cluster)
    await client.drained("n1")
    await cluster.stop_scheduler("s1")

    client = await cluster.start_scheduler("s2")

    assert await drained_nodes(client) == ["n1"]
    assert await client.drained("n1") != []
    assert await cluster.keys("drains") == ["n1"]


async def test_an_unknown_node_is_refused(cluster: Cluster) -> None:
    client = await cluster.start_scheduler()
    with pytest.raises(NotFoundError) as refused:
        await client.drained("nowhere")
    assert refused.value.reason == "NODE_UNKNOWN"
    with pytest.raises(NotFoundError):
        await client.undrain("nowhere")

"""Deploying, listing, evicting and deleting models, and the cluster's status."""

import asyncio

import pytest

from kindling.platform.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError, UnavailableError
from kindling.platform.rpc.channel import remote_errors
from kindling.v1 import checkpoint_pb2, cluster_pb2, model_pb2
from support.scheduler_cluster import Client, Cluster


async def delete(client: Client, name: str, request_id: str = "") -> None:
    with remote_errors("scheduler"):
        await client.models.DeleteModel(model_pb2.DeleteModelRequest(name=name, request_id=request_id))


async def test_a_deployed_model_can_be_called_and_found(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    await cluster.add_worker("n1/w1")
    client = await cluster.start_scheduler(concurrency_target=5)

    deployed = await client.deploy("m", "file:///models/m", max_instances=2)

    assert deployed.checkpoint.digest == "blake3:m"
    assert deployed.settings.max_instances == 2
    assert deployed.settings.concurrency_target == 5
    assert deployed.settings.keep_alive.seconds == 300
    assert await cluster.keys("models") == ["m"]
    assert (await client.granted("m")).node_id == "n1"
    found = await client.models.GetModel(model_pb2.GetModelRequest(name="m"))
    listed = await client.models.ListModels(model_pb2.ListModelsRequest())
    assert found.model == deployed
    assert list(listed.models) == [deployed]


async def test_deploying_the_same_again_changes_nothing(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    worker = await cluster.add_worker("n1/w1")
    client = await cluster.start_scheduler()
    first = await client.deploy("m", min_instances=1)
    granted = await client.granted("m")

    cluster.clock.advance(5)
    second = await client.deploy("m", min_instances=1)

    assert second == first
    assert (await client.granted("m")).instance_id == granted.instance_id
    assert worker.stop_calls == []


async def test_another_checkpoint_serves_requests_to_come_while_the_old_one_drains(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    old, new = await cluster.add_worker("n1/w1"), await cluster.add_worker("n1/w2")
    client = await cluster.start_scheduler()
    await client.deploy("m", "file:///models/one")
    first = await client.granted("m", "g1")
    if first.worker_address != old.address:
        old, new = new, old
    old.set_generations("g1")

    await client.deploy("m", "file:///models/two")
    second = await client.granted("m", "g2")

    assert second.worker_address == new.address
    assert new.instances[second.instance_id].digest == "blake3:two"
    await old.until(lambda: old.stop_calls == [first.instance_id])
    assert first.instance_id in old.instances, "it ends with its generation, not before"
    old.set_generations()
    await cluster.until_keys("instances", lambda names: names == {second.instance_id})


@pytest.mark.parametrize("name", ["", "a/b", "..", "a..b", ".a", "-a", "a\0b", "ü", "a b", "x" * 129, "x" * 10_000])
async def test_a_bad_name_is_refused(cluster: Cluster, name: str) -> None:
    await cluster.add_node("n1")
    client = await cluster.start_scheduler()
    with pytest.raises(InvalidArgumentError) as refused:
        await client.deploy(name)
    assert (refused.value.reason, refused.value.field) == ("INVALID_MODEL_NAME", "name")
    assert await cluster.keys("models") == []


async def test_settings_that_contradict_are_refused(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    client = await cluster.start_scheduler()
    with pytest.raises(InvalidArgumentError) as refused:
        await client.deploy("m", min_instances=3, max_instances=2)
    assert (refused.value.reason, refused.value.field) == ("INVALID_MODEL_SETTINGS", "settings.min_instances")


async def test_deploying_without_nodes_says_so(cluster: Cluster) -> None:
    client = await cluster.start_scheduler()
    with pytest.raises(UnavailableError) as refused:
        await client.deploy("m")
    assert refused.value.reason == "NO_NODES"


async def test_deleting_ends_instances_then_the_checkpoint(cluster: Cluster) -> None:
    storage = await cluster.add_node("n1")
    worker = await cluster.add_worker("n1/w1")
    client = await cluster.start_scheduler()
    await client.deploy("m")
    await client.granted("m", "g1")
    worker.set_generations("g1")

    await delete(client, "m", "r1")
    await delete(client, "m", "r1")

    with pytest.raises(NotFoundError):
        await client.granted("m")
    with pytest.raises(NotFoundError):
        await delete(client, "m", "r2")
    await worker.until(lambda: worker.stop_calls)
    assert storage.deleted == []
    worker.set_generations()
    async with asyncio.timeout(10):
        await storage.deletion.wait()
    assert storage.deleted == ["blake3:m"]
    assert await cluster.keys("instances") == []
    assert await cluster.keys("models") == []


async def test_a_checkpoint_that_another_model_has_stays(cluster: Cluster) -> None:
    storage = await cluster.add_node("n1")
    client = await cluster.start_scheduler()
    await client.deploy("a", "file:///models/m")
    await client.deploy("b", "file:///models/m")

    await delete(client, "a")
    await delete(client, "b")

    async with asyncio.timeout(10):
        await storage.deletion.wait()
    assert storage.deleted == ["blake3:m"], "once, after the last"


async def test_evicting_stops_idle_instances_and_drops_chunks_everywhere(cluster: Cluster) -> None:
    storages = [await cluster.add_node(f"n{number}") for number in range(2)]
    worker = await cluster.add_worker("n1/w1")
    client = await cluster.start_scheduler()
    await client.deploy("m")
    await client.granted("m", "g1")

    with pytest.raises(FailedPreconditionError) as busy:
        await client.evict("m", checkpoint_pb2.TIER_REMOTE)
    await client.release("g1")
    evicted = await client.evict("m", checkpoint_pb2.TIER_REMOTE)

    assert busy.value.reason == "MODEL_BUSY"
    assert (evicted.stopped_instances, evicted.dropped_bytes) == (1, 14)
    assert worker.instances == {}
    assert [storage.evicted for storage in storages] == [[("blake3:m", checkpoint_pb2.TIER_REMOTE)]] * 2
    with pytest.raises(InvalidArgumentError):
        await client.evict("m", checkpoint_pb2.TIER_UNSPECIFIED)
    with pytest.raises(NotFoundError):
        await client.evict("nothing", checkpoint_pb2.TIER_SSD)


async def test_a_lease_that_is_about_to_end_is_waited_for(cluster: Cluster) -> None:
    storage = await cluster.add_node("n1")
    client = await cluster.start_scheduler()
    await client.deploy("m")
    storage.pinned_bytes = [100]

    asking = asyncio.ensure_future(client.evict("m", checkpoint_pb2.TIER_REMOTE))
    while not asking.done():
        cluster.clock.advance(0.1)
        await client.status()

    assert (await asking).dropped_bytes == 14
    assert len(storage.evicted) == 2


async def test_small_files_come_from_a_node(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    client = await cluster.start_scheduler()
    await client.deploy("m")

    parts = [part async for part in client.models.ReadModelFiles(model_pb2.ReadModelFilesRequest(name="m"))]

    assert [(part.checkpoint_digest, part.part.path, part.part.data) for part in parts] == [
        ("blake3:m", "config.json", b"{}")
    ]


async def test_the_status_tells_what_is_there(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    await cluster.add_worker("n1/w1", slots=2)
    client = await cluster.start_scheduler("s1")
    await client.deploy("m")
    granted = await client.granted("m", "g1")
    busy = await client.status()
    await client.release("g1")
    cluster.clock.advance(7)
    idle = await client.status()

    assert (busy.leader_id, busy.leader_address) == ("s1", await cluster.leader())
    assert busy.leader_since.seconds > 0
    (node,) = busy.nodes
    assert (node.node_id, node.tiers[0].used_bytes, node.workers[0].slots) == ("n1", 40, 2)
    (instance,) = busy.instances
    assert (instance.instance_id, instance.worker_id) == (granted.instance_id, "n1/w1")
    assert (instance.state, instance.generations) == (cluster_pb2.INSTANCE_STATE_READY, 1)
    assert getattr(instance, "from") == checkpoint_pb2.TIER_SSD
    assert instance.startup_seconds == pytest.approx(0.11)
    assert idle.instances[0].idle_seconds == pytest.approx(7, abs=0.1)
    assert [model.name for model in idle.models] == ["m"]

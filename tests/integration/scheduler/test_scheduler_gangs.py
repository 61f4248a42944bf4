"""Models on several devices, over gRPC and a real etcd: who is told what, and what becomes of the records."""

import pytest

from kindling.platform.errors import FailedPreconditionError, UnimplementedError
from support.scheduler_cluster import Client, Cluster
from support.scheduler_fakes import FakeWorker


async def pair_of_workers(cluster: Cluster) -> tuple[FakeWorker, FakeWorker, Client]:
    """A node with two workers, and a model that takes both."""
    await cluster.add_node("n1")
    lead = await cluster.add_worker("n1/w1", memory_bytes=600)
    other = await cluster.add_worker("n1/w2", memory_bytes=600)
    await cluster.add_model("m", total_bytes=1000, devices=2)
    client = await cluster.start_scheduler()
    await client.until_status(lambda status: sum(len(node.workers) for node in status.nodes) == 2)
    return lead, other, client


async def test_one_worker_is_asked_and_told_whom_to_join(cluster: Cluster) -> None:
    lead, other, client = await pair_of_workers(cluster)
    granted = await client.granted("m")
    assert granted.worker_address == lead.address
    assert (lead.joined_addresses, other.start_calls) == ([other.address], [])
    (instance,) = (await client.status()).instances
    assert (instance.worker_id, list(instance.other_worker_ids)) == ("n1/w1", ["n1/w2"])
    with pytest.raises(FailedPreconditionError) as stays:
        await client.migrated("m", "n1/w2")
    assert stays.value.reason == "SEVERAL_DEVICES_STAY"


async def test_the_next_leader_knows_all_its_devices(cluster: Cluster) -> None:
    lead, other, client = await pair_of_workers(cluster)
    granted = await client.granted("m", "g1")
    await cluster.stop_scheduler("s1")
    successor = await cluster.start_scheduler("s2")
    lead.set_generations("g1")
    status = await successor.until_status(lambda status: len(status.instances) == 1)
    assert list(status.instances[0].other_worker_ids) == ["n1/w2"]
    assert (await successor.granted("m", "g2")).instance_id == granted.instance_id
    assert other.start_calls == []


async def test_a_refusal_is_told_and_the_worker_is_not_asked_again(cluster: Cluster) -> None:
    lead, other, client = await pair_of_workers(cluster)
    lead.errors.append(UnimplementedError("one device alone", reason="TENSOR_PARALLEL_NOT_SUPPORTED"))
    for _ in range(3):
        with pytest.raises(UnimplementedError) as refused:
            await client.granted("m")
        assert refused.value.reason == "TENSOR_PARALLEL_NOT_SUPPORTED"
    assert (len(lead.start_calls), other.start_calls) == (1, [])
    await cluster.add_worker("n1/w3", memory_bytes=600)
    await client.until_status(lambda status: len(status.nodes[0].workers) == 3)
    assert (await client.granted("m")).worker_address == lead.address, "now it may be possible, and is tried once more"

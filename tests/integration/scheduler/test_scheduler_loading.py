"""Instances that take generations while their weights still arrive, over real gRPC and a real etcd."""

import asyncio

import pytest

from kindling.platform.errors import UnavailableError
from kindling.platform.etcd_records import decode_record, instance_key
from kindling.v1 import checkpoint_pb2, cluster_pb2, scheduler_pb2, state_pb2
from support.scheduler_cluster import Client, Cluster
from support.scheduler_fakes import FakeWorker


async def test_requests_are_granted_before_the_load_is_over(cluster: Cluster) -> None:
    worker, client = await _loading(cluster)
    granted = await client.granted("m", "g1")
    (instance,) = (await client.status()).instances
    assert granted.start == scheduler_pb2.START_KIND_COLD
    assert (instance.state, instance.startup_seconds) == (cluster_pb2.INSTANCE_STATE_READY, 0)
    assert getattr(granted, "from") == getattr(instance, "from") == checkpoint_pb2.TIER_REMOTE, "as it was expected"
    await _until_recorded(cluster, granted.instance_id, complete=False)
    worker.finish_load()
    await _until_recorded(cluster, granted.instance_id, complete=True)
    (instance,) = (await client.status()).instances
    assert instance.startup_seconds == pytest.approx(0.11)
    assert getattr(instance, "from") == checkpoint_pb2.TIER_SSD, "as it was"


async def test_a_new_leader_hears_how_the_load_went(cluster: Cluster) -> None:
    worker, client = await _loading(cluster)
    granted = await client.granted("m", "g1")
    await _until_recorded(cluster, granted.instance_id, complete=False)
    await cluster.stop_scheduler("s1")
    worker.finish_load()
    await cluster.start_scheduler("s2")
    await _until_recorded(cluster, granted.instance_id, complete=True)


async def test_a_load_that_breaks_counts_as_a_failed_start(cluster: Cluster) -> None:
    worker, client = await _loading(cluster)
    first = await client.granted("m", "g1")
    worker.finish_load(loaded=False)
    await cluster.until_keys("instances", lambda names: not names)
    with pytest.raises(UnavailableError) as refused:
        await client.granted("m", "g2")
    assert refused.value.reason == "LOAD_BROKEN"
    assert refused.value.metadata["instance_id"] == first.instance_id
    assert refused.value.retry_after_seconds
    cluster.clock.advance(2)
    again = await client.granted("m", "g3")
    assert again.start == scheduler_pb2.START_KIND_COLD
    assert worker.start_calls == [first.instance_id, again.instance_id]


async def test_a_load_that_breaks_is_tried_elsewhere(cluster: Cluster) -> None:
    worker, client = await _loading(cluster, others=1)
    first = await client.granted("m", "g1")
    assert first.worker_address == worker.address
    worker.finish_load(loaded=False)
    await cluster.until_keys("instances", lambda names: not names)
    assert (await client.granted("m", "g2")).worker_address != worker.address


async def test_an_idle_instance_is_not_stopped_while_it_loads(cluster: Cluster) -> None:
    worker, client = await _loading(cluster)
    granted = await client.granted("m", "g1")
    await client.release("g1")
    call = client.acquire("other", "g2")
    await call.read()
    await client.status()
    assert worker.stop_calls == []
    worker.finish_load()
    await worker.until(lambda: worker.stop_calls)
    assert worker.stop_calls == [granted.instance_id]


async def _loading(cluster: Cluster, *, others: int = 0) -> tuple[FakeWorker, Client]:
    """A cluster whose first worker is asked first, and on which loads end when the test says so."""
    await cluster.add_node("n1")
    worker, *_ = [await cluster.add_worker(f"n1/w{number}") for number in range(1 + others)]
    worker.loading = True
    await cluster.add_model("m")
    await cluster.add_model("other", digest="blake3:other")
    return worker, await cluster.start_scheduler()


async def _until_recorded(cluster: Cluster, instance_id: str, *, complete: bool) -> None:
    """Return once the instance's record has a report that is, or is not, complete."""
    key = instance_key(cluster.prefix, instance_id)
    async with asyncio.timeout(10):
        async for update in cluster.etcd.watch(key):
            items = update.items if hasattr(update, "items") else [event.item for event in update.events]
            for item in items:
                record = decode_record(state_pb2.InstanceRecord, item.value or b"{}")
                if record.HasField("report") and record.report.complete is complete:
                    return

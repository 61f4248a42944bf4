"""Decisions that rest on what earlier ones came to, over real gRPC and a real etcd."""

from typing import Any

import pytest

from kindling.platform.etcd_records import decision_key, decode_record
from kindling.v1 import checkpoint_pb2, cluster_pb2, state_pb2
from support.scheduler_cluster import Client, Cluster
from support.scheduler_fakes import FakeWorker

GB = 10**9
MODELS = ("first", "second", "third")


@pytest.fixture
async def workers(cluster: Cluster) -> list[FakeWorker]:
    """Two nodes about which the same is believed; the first one's SSD, where all models are, reads at 10 MB/s."""
    found = []
    for node_id in ("n1", "n2"):
        await cluster.add_node(node_id)
        found.append(await cluster.add_worker(f"{node_id}/w", slots=4))
    found[0].read_bytes, found[0].read_seconds = GB, 100.0
    found[1].read_bytes, found[1].read_seconds = GB, 0.9
    for name in MODELS:
        await cluster.add_model(name, digest=f"blake3:{name}", total_bytes=GB, concurrency_target=4)
        for node_id in ("n1", "n2"):
            await cluster.add_residency(node_id, f"blake3:{name}", ssd=GB)
    return found


async def learned(client: Client) -> Any:
    return (await client.status(include_estimates=True)).estimates


async def test_a_slow_first_load_teaches_the_second_decision(cluster: Cluster, workers: list[FakeWorker]) -> None:
    slow, fast = workers
    client = await cluster.start_scheduler()
    assert (await client.granted("first")).worker_address == slow.address, "the first of two that look alike"
    assert (await client.granted("second")).worker_address == fast.address
    assert (await client.granted("third")).worker_address == fast.address
    links = {(one.node_id, one.tier): one for one in (await learned(client)).links}
    found = links["n1", checkpoint_pb2.TIER_SSD]
    assert (found.measured_bytes_per_second, found.loads) == (0, 1)
    assert found.bytes_per_second == pytest.approx(10e6)


async def test_estimates_and_what_came_of_them_are_told_when_asked_for(
    cluster: Cluster, workers: list[FakeWorker]
) -> None:
    client = await cluster.start_scheduler()
    assert not (await client.status()).HasField("estimates")
    empty = await learned(client)
    assert (len(empty.qualities), len(empty.links), len(empty.inits)) == (0, 0, 0)
    granted = await client.granted("first")
    (instance,) = (await client.status()).instances
    seen = await learned(client)
    startups = [one for one in seen.qualities if one.kind == cluster_pb2.ESTIMATE_KIND_STARTUP]
    assert [(one.node_id, one.count, getattr(one, "from")) for one in startups] == [
        ("", 1, checkpoint_pb2.TIER_SSD),
        ("n1", 1, checkpoint_pb2.TIER_SSD),
    ]
    expected = abs(instance.estimated_seconds / instance.startup_seconds - 1)
    assert startups[0].median_error == startups[0].p90_error == pytest.approx(expected, rel=1e-3)
    assert sum(bucket.count for bucket in startups[0].histogram) == 1
    (init,) = seen.inits
    assert (init.digest, init.device_kind, init.seconds, init.starts) == ("blake3:first", "cpu", 0.01, 1)
    assert granted.instance_id == instance.instance_id


async def test_a_new_leader_learns_from_the_reports_of_what_runs(cluster: Cluster, workers: list[FakeWorker]) -> None:
    client = await cluster.start_scheduler()
    await client.granted("first", "g1")
    await cluster.until_keys("decisions", lambda names: not names)
    await cluster.stop_scheduler("s1")
    successor = await cluster.start_scheduler("s2")
    assert (await successor.granted("second")).worker_address == workers[1].address


async def test_a_migration_is_foreseen_and_teaches(cluster: Cluster, workers: list[FakeWorker]) -> None:
    source, target = workers
    source.round_tokens = [900, 80, 20]
    client = await cluster.start_scheduler()
    granted = await client.granted("first", "g1")
    source.set_generations("g1")
    target.hold()
    moving = client.migrating("first", "n2/w")
    await target.until(lambda: target.start_calls)
    item = await cluster.etcd.get(decision_key(cluster.prefix, f"migrate-{granted.instance_id}"))
    assert item is not None
    record = decode_record(state_pb2.DecisionRecord, item.value)
    assert record.reason == "asked to run on n2/w; its generations should move in 1.074 s"
    target.released.set()
    *_, last = [event async for event in moving]
    assert (last.migrations[0].moved, last.migrations[0].estimated_seconds) == (1, pytest.approx(1.074))
    seen = await learned(client)
    (fit,) = seen.migrations
    assert (fit.digest, fit.device_kind, fit.migrations, fit.generation_tokens) == ("blake3:first", "cpu", 1, 1000)
    assert 1000 * fit.seconds_per_token + fit.base_seconds < 1.074, "it took no time"
    errors = [(one.node_id, one.count) for one in seen.qualities if one.kind == cluster_pb2.ESTIMATE_KIND_MIGRATION]
    assert errors == [("", 1), ("n2", 1)]

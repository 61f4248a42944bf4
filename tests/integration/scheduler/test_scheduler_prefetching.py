"""The leader learns when models are called, and has their heads brought to DRAM in time; real gRPC and etcd."""

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from kindling.platform.errors import UnavailableError
from kindling.v1 import checkpoint_pb2, storage_pb2
from support.scheduler_cluster import Client, Cluster
from support.scheduler_fakes import FakeStorage

GB = 10**9
PERIOD = 600.0
LIMITS = {"prefetch_horizon_seconds": 100.0, "prefetch_dram_share": 0.25, "prefetch_bandwidth_share": 0.1}


@pytest.fixture
async def storage(cluster: Cluster) -> FakeStorage:
    """A node with one worker and a model on its SSD, of which nothing was measured."""
    storage = await cluster.add_node("n")
    await cluster.add_worker("n/w")
    await cluster.add_model("m", total_bytes=8 * GB, keep_alive=Duration(seconds=1))
    await cluster.add_residency("n", "blake3:m", ssd=8 * GB)
    return storage


async def called(cluster: Cluster, client: Client, times: int = 4) -> None:
    """Have the model called periodically; its instance stops after each call. The last one was just now."""
    for number in range(times):
        cluster.clock.advance(PERIOD - 1.5)
        await client.granted("m", f"g{number}")
        await client.release(f"g{number}")
        cluster.clock.advance(1.5)
        await cluster.until_keys("instances", lambda names: not names)


async def prefetched(cluster: Cluster, storage: FakeStorage) -> Any:
    """The next prefetch, on a clock that goes on by some seconds as long as there is none."""
    for _ in range(100):
        for _ in range(20):
            if not storage.prefetches.empty():
                return storage.prefetches.get_nowait()
            await cluster.etcd.get("nothing")  # a turn of the event loop, and of the network
        cluster.clock.advance(5.0)
    raise AssertionError("nothing was prefetched")


async def pass_time(cluster: Cluster, client: Client) -> None:
    """Let the time of the next call come, and pass."""
    for _ in range(60):
        cluster.clock.advance(PERIOD / 50)
        await client.status()


async def test_the_head_of_what_is_called_periodically_is_brought_in_time(
    cluster: Cluster, storage: FakeStorage
) -> None:
    client = await cluster.start_scheduler(**LIMITS)
    await called(cluster, client)
    cluster.clock.advance(0.7 * PERIOD)
    request = await prefetched(cluster, storage)
    assert (request.digest, request.head_bytes) == ("blake3:m", 2 * GB)
    assert (request.bytes_per_second, request.unused_limit_bytes) == (0.1 * GB, (1 << 40) // 4)
    await cluster.add_residency("n", "blake3:m", ssd=8 * GB, dram=2 * GB)
    while (request := await prefetched(cluster, storage)).head_bytes == 2 * GB:
        pass  # the leader has not heard yet
    assert request.head_bytes == 4 * GB


async def test_what_no_ssd_has_is_copied_there_first(cluster: Cluster) -> None:
    storage = await cluster.add_node("n")
    await cluster.add_worker("n/w")
    await cluster.add_model("m", total_bytes=8 * GB, keep_alive=Duration(seconds=1))
    client = await cluster.start_scheduler(**LIMITS)
    await called(cluster, client)
    request = await prefetched(cluster, storage)
    assert (request.digest, request.to, request.leader_revision > 0) == ("blake3:m", checkpoint_pb2.TIER_SSD, True)
    assert request.bytes_per_second == pytest.approx(0.1 * 0.2 * GB), "of what is assumed of a remote store"
    assert list(request.give_way_digests) == []
    await cluster.add_residency("n", "blake3:m", ssd=8 * GB)
    while (request := await prefetched(cluster, storage)).to == checkpoint_pb2.TIER_SSD:
        pass  # the leader has not heard yet
    assert (request.to, request.head_bytes) == (checkpoint_pb2.TIER_DRAM, 2 * GB)


@pytest.mark.parametrize(
    "outcome", [storage_pb2.PREFETCH_OUTCOME_YIELDED, UnavailableError("it is away", reason="STORAGE_DRAINING")]
)
async def test_one_that_is_cut_short_is_tried_again_later(cluster: Cluster, storage: FakeStorage, outcome: Any) -> None:
    storage.prefetch_outcomes = [outcome] * 5
    client = await cluster.start_scheduler(**LIMITS)
    await called(cluster, client)
    cluster.clock.advance(0.7 * PERIOD)
    first, second = await prefetched(cluster, storage), await prefetched(cluster, storage)
    assert first == second


async def test_a_prefetch_under_way_does_not_hold_up_the_end_of_a_term(cluster: Cluster, storage: FakeStorage) -> None:
    storage.prefetches_released.clear()
    client = await cluster.start_scheduler(**LIMITS)
    await called(cluster, client)
    cluster.clock.advance(0.7 * PERIOD)
    await prefetched(cluster, storage)
    await cluster.stop_scheduler("s1")
    successor = await cluster.start_scheduler("s2", **LIMITS)
    await called(cluster, successor, 1)


async def test_what_somebody_evicted_is_left_alone(cluster: Cluster, storage: FakeStorage) -> None:
    client = await cluster.start_scheduler(**LIMITS)
    await called(cluster, client)
    await client.evict("m", checkpoint_pb2.TIER_SSD)
    asked_before = storage.prefetches.qsize()
    await pass_time(cluster, client)
    assert storage.prefetches.qsize() == asked_before


async def test_prefetching_can_be_switched_off(cluster: Cluster, storage: FakeStorage) -> None:
    client = await cluster.start_scheduler(prefetch=False)
    await called(cluster, client)
    await pass_time(cluster, client)
    assert storage.prefetches.empty()


async def test_the_status_tells_what_became_of_prefetches(cluster: Cluster, storage: FakeStorage) -> None:
    client = await cluster.start_scheduler()
    (node,) = (await client.status()).nodes
    told = node.prefetch
    assert (told.prefetched_bytes, told.hits, told.hit_bytes, told.misses, told.wasted_bytes) == (9, 3, 5, 1, 4)
    assert (node.prefetch_to_ssd.prefetched_bytes, node.prefetch_to_ssd.hits) == (7, 2)

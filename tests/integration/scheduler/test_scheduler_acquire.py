"""Asking for a place, over real gRPC and a real etcd."""

import asyncio

import pytest

from kindling.platform.errors import (
    DataLossError,
    DeadlineExceededError,
    FailedPreconditionError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
)
from kindling.platform.rpc.channel import remote_errors
from kindling.v1 import checkpoint_pb2, scheduler_pb2
from support.scheduler_cluster import Client, Cluster


async def next_event(call, kind: str):
    with remote_errors("scheduler"):
        async with asyncio.timeout(10):
            async for event in call:
                if event.HasField(kind):
                    return getattr(event, kind)
    raise AssertionError(f"the stream ended without {kind}")


async def until_settled(client: Client) -> None:
    """A round trip: whatever the scheduler was told before has been taken in."""
    await client.status()


async def test_cold_then_warm(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    worker = await cluster.add_worker("n1/w1")
    await cluster.add_model("m")
    client = await cluster.start_scheduler()

    cold = await client.granted("m", "g1")
    warm = await client.granted("m", "g2")

    assert cold.start == scheduler_pb2.START_KIND_COLD
    assert getattr(cold, "from") == checkpoint_pb2.TIER_SSD
    assert cold.worker_address == worker.address
    assert cold.node_id == "n1"
    assert warm.start == scheduler_pb2.START_KIND_WARM
    assert warm.instance_id == cold.instance_id
    assert worker.start_calls == [cold.instance_id]
    await cluster.until_keys("decisions", lambda names: not names)
    assert await cluster.keys("instances") == [cold.instance_id]


async def test_progress_is_streamed_and_the_decision_is_recorded_before_acting(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    worker = await cluster.add_worker("n1/w1")
    await cluster.add_model("m")
    worker.hold()
    client = await cluster.start_scheduler()

    call = client.acquire("m")
    assert (await next_event(call, "queued")).ahead == 0
    starting = await next_event(call, "starting")
    while not starting.progress.total_bytes:
        starting = await next_event(call, "starting")

    assert starting.progress.loaded_bytes == 5
    assert starting.node_id == "n1"
    assert await cluster.keys("instances") == worker.start_calls
    assert await cluster.keys("decisions") == [f"start-{worker.start_calls[0]}"]
    worker.released.set()
    assert (await next_event(call, "granted")).instance_id == worker.start_calls[0]


async def test_many_requests_start_as_many_instances_as_they_need(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    workers = [await cluster.add_worker(f"n1/w{number}") for number in range(4)]
    await cluster.add_model("m", concurrency_target=4)
    client = await cluster.start_scheduler()

    grants = await asyncio.gather(*(client.granted("m") for _ in range(8)))

    per_instance = [sum(g.instance_id == name for g in grants) for name in {g.instance_id for g in grants}]
    assert per_instance == [4, 4]
    assert sum(len(worker.start_calls) for worker in workers) == 2


async def test_a_request_waits_its_turn_and_gets_the_room_that_is_released(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    await cluster.add_worker("n1/w1")
    await cluster.add_model("m", concurrency_target=1)
    client = await cluster.start_scheduler()
    first = await client.granted("m", "g1")

    second, third = client.acquire("m", "g2"), client.acquire("m", "g3")
    assert (await next_event(second, "queued")).ahead == 0
    assert (await next_event(third, "queued")).ahead == 1
    await client.release("g1")

    granted = await next_event(second, "granted")
    assert granted.instance_id == first.instance_id
    assert granted.start == scheduler_pb2.START_KIND_WARM
    await client.release("g2")
    assert (await next_event(third, "granted")).instance_id == first.instance_id


async def test_asking_twice_yields_one_grant(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    await cluster.add_worker("n1/w1")
    await cluster.add_model("m", concurrency_target=1)
    client = await cluster.start_scheduler()

    first, second = await client.granted("m", "g1"), await client.granted("m", "g1")

    assert first.instance_id == second.instance_id
    assert (await client.status()).instances[0].generations == 1


async def test_a_full_queue_refuses(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    worker = await cluster.add_worker("n1/w1")
    await cluster.add_model("m", max_queued_requests=2)
    worker.hold()
    client = await cluster.start_scheduler()
    held = [client.acquire("m") for _ in range(2)]
    for call in held:
        await next_event(call, "queued")

    with pytest.raises(ResourceExhaustedError) as refused:
        await client.granted("m")

    assert refused.value.reason == "QUEUE_FULL"
    assert refused.value.retry_after_seconds
    worker.released.set()
    await next_event(held[0], "granted")


async def test_a_cancelled_request_leaves_the_queue(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    worker = await cluster.add_worker("n1/w1")
    await cluster.add_model("m", concurrency_target=1, max_queued_requests=2)
    worker.hold()
    client = await cluster.start_scheduler()
    first, second = client.acquire("m", "g1"), client.acquire("m", "g2")
    await next_event(first, "queued")
    await next_event(second, "queued")

    first.cancel()
    worker.released.set()

    assert (await next_event(second, "granted")).instance_id == worker.start_calls[0]


async def test_a_request_that_waits_too_long_is_told_so(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    worker = await cluster.add_worker("n1/w1")
    await cluster.add_model("m")
    worker.hold()
    client = await cluster.start_scheduler(max_queue_wait_seconds=600)
    call = client.acquire("m")
    await next_event(call, "queued")

    cluster.clock.advance(601)

    with pytest.raises(DeadlineExceededError) as late:
        await next_event(call, "granted")
    assert late.value.reason == "QUEUE_TIMEOUT"


async def test_without_workers_requests_are_held_for_a_while_only(cluster: Cluster) -> None:
    await cluster.add_model("m")
    client = await cluster.start_scheduler(no_workers_wait_seconds=30)
    call = client.acquire("m")
    await next_event(call, "queued")

    cluster.clock.advance(31)

    with pytest.raises(UnavailableError) as refused:
        await next_event(call, "granted")
    assert refused.value.reason == "NO_WORKERS"


async def test_a_worker_that_arrives_serves_those_who_wait(cluster: Cluster) -> None:
    await cluster.add_model("m")
    client = await cluster.start_scheduler()
    call = client.acquire("m")
    await next_event(call, "queued")

    await cluster.add_node("n1")
    worker = await cluster.add_worker("n1/w1")

    assert (await next_event(call, "granted")).worker_address == worker.address


async def test_an_unknown_model_is_refused(cluster: Cluster) -> None:
    client = await cluster.start_scheduler()
    with pytest.raises(NotFoundError) as refused:
        await client.granted("nothing")
    assert refused.value.reason == "MODEL_NOT_FOUND"


async def test_a_grant_that_no_worker_sees_lapses(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    await cluster.add_worker("n1/w1")
    await cluster.add_model("m", concurrency_target=1)
    client = await cluster.start_scheduler(grant_ttl_seconds=10)
    await client.granted("m", "g1")
    call = client.acquire("m", "g2")
    await next_event(call, "queued")

    cluster.clock.advance(10)

    await next_event(call, "granted")


async def test_a_failed_start_is_tried_elsewhere(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    workers = [await cluster.add_worker(f"n1/w{number}") for number in range(2)]
    for worker in workers:
        worker.errors = []
    workers[0].errors = [ResourceExhaustedError("the pool is too small", reason="POOL_TOO_SMALL")]
    await cluster.add_model("m")
    client = await cluster.start_scheduler()

    granted = await client.granted("m")

    assert granted.worker_address == workers[1].address
    assert await cluster.keys("instances") == [granted.instance_id]


async def test_a_start_that_fails_everywhere_is_reported_as_it_failed_first(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    workers = [await cluster.add_worker(f"n1/w{number}") for number in range(2)]
    for worker in workers:
        worker.errors = [ResourceExhaustedError(f"{worker.worker_id} is small", reason="POOL_TOO_SMALL")]
    await cluster.add_model("m")
    client = await cluster.start_scheduler()

    with pytest.raises(ResourceExhaustedError) as failed:
        await client.granted("m")

    assert failed.value.reason == "POOL_TOO_SMALL"
    assert failed.value.message == "n1/w0 is small"
    await cluster.until_keys("instances", lambda names: not names)
    assert await cluster.keys("decisions") == []


async def test_a_checkpoint_at_fault_is_not_tried_elsewhere(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    workers = [await cluster.add_worker(f"n1/w{number}") for number in range(2)]
    workers[0].errors = [DataLossError("chunk 3 of p0 is bad", reason="CHUNK_CORRUPT", metadata={"chunk": "3"})]
    await cluster.add_model("m")
    client = await cluster.start_scheduler()

    with pytest.raises(DataLossError) as failed:
        await client.granted("m")
    assert failed.value.reason == "CHUNK_CORRUPT"
    assert failed.value.metadata == {"chunk": "3"}
    assert workers[1].start_calls == []

    with pytest.raises(DataLossError):  # at once, for a pause has begun
        await client.granted("m")
    cluster.clock.advance(2)
    assert (await client.granted("m")).start == scheduler_pb2.START_KIND_COLD


async def test_a_standby_points_at_the_leader(cluster: Cluster) -> None:
    await cluster.start_scheduler("s1")
    leader = await cluster.leader()
    standby = await cluster.start_standby("s2")
    while True:
        with pytest.raises(FailedPreconditionError) as refused:
            await standby.granted("m")
        if refused.value.metadata:
            break

    assert refused.value.reason == "NOT_LEADER"
    assert refused.value.metadata == {"leader_address": leader}


async def test_a_generation_that_broke_off_gets_a_place_elsewhere(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    await cluster.add_worker("n1/w1")
    await cluster.add_model("m", concurrency_target=1)
    client = await cluster.start_scheduler()
    first = await client.granted("m", "g1")

    asking = client.acquire("m", "g1", first.instance_id)
    await next_event(asking, "queued")
    other = await client.granted("m", "g2")  # the room that was given back
    second = await cluster.add_worker("n1/w2")

    granted = await next_event(asking, "granted")
    assert (other.instance_id, granted.worker_address) == (first.instance_id, second.address)


async def test_without_a_place_elsewhere_the_avoided_one_is_granted_again(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    await cluster.add_worker("n1/w1")
    await cluster.add_model("m")
    client = await cluster.start_scheduler()
    first = await client.granted("m", "g1")

    asking = client.acquire("m", "g1", first.instance_id)
    await next_event(asking, "queued")
    cluster.clock.advance(2)

    assert (await next_event(asking, "granted")).instance_id == first.instance_id

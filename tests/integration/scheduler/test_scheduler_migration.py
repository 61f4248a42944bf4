"""Moving a running model to another worker, over real gRPC and a real etcd."""

import asyncio
from dataclasses import dataclass

import pytest

from kindling.platform.errors import (
    AbortedError,
    FailedPreconditionError,
    KindlingError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
)
from kindling.platform.etcd_records import decision_key, decode_record
from kindling.v1 import cluster_pb2, state_pb2
from support.scheduler_cluster import Client, Cluster
from support.scheduler_fakes import FakeWorker

READY = cluster_pb2.INSTANCE_STATE_READY
DONE = cluster_pb2.MIGRATION_STAGE_DONE
THERE = "n2/w1"


@dataclass
class Running:
    """A model that runs generations g1 and g2 on n1/w1, and the free worker n2/w1."""

    client: Client
    source: FakeWorker
    target: FakeWorker
    instance_id: str

    @property
    def moved_to(self) -> str:
        """The instance on the other worker."""
        (name,) = self.target.instances
        return name


@pytest.fixture
async def running(cluster: Cluster) -> Running:
    for node_id in ("n1", "n2"):
        await cluster.add_node(node_id)
    source = await cluster.add_worker("n1/w1")
    await cluster.add_model("m", concurrency_target=4)
    client = await cluster.start_scheduler()
    granted = await client.granted("m", "g1")
    source.set_generations("g1", "g2")
    target = await cluster.add_worker(THERE)
    await until_seen(client, "n2", 1)
    return Running(client, source, target, granted.instance_id)


async def until_seen(client: Client, node_id: str, workers: int) -> None:
    """Return once the scheduler knows of so many workers on a node and has heard of g2."""
    await client.until_status(
        lambda status: (
            sum(len(node.workers) for node in status.nodes if node.node_id == node_id) == workers
            and all(one.generations == 2 for one in status.instances)
        )
    )


async def states(client: Client) -> dict[str, tuple[int, int]]:
    """State and generations of every instance."""
    return {one.instance_id: (one.state, one.generations) for one in (await client.status()).instances}


async def test_every_generation_moves_and_the_source_stops(cluster: Cluster, running: Running) -> None:
    (status,) = await running.client.migrated("m", THERE)

    assert (status.stage, status.moved, status.stayed) == (DONE, 2, 0)
    assert status.instance_id == running.instance_id
    assert (status.target_instance_id, status.target_worker_id) == (running.moved_to, THERE)
    assert running.target.generations(running.moved_to) == {"g1", "g2"}
    assert running.source.stop_calls == [running.instance_id]
    await cluster.until_keys("decisions", lambda names: not names)
    assert await cluster.keys("instances") == [running.moved_to]
    assert await states(running.client) == {running.moved_to: (READY, 2)}
    assert (await running.client.granted("m")).worker_address == running.target.address


async def test_the_decision_is_recorded_first_and_the_source_serves_until_the_target_is_ready(
    cluster: Cluster, running: Running
) -> None:
    running.target.hold()
    moving = asyncio.ensure_future(running.client.migrated("m", THERE))
    await running.target.until(lambda: running.target.start_calls)

    (target_id,) = running.target.start_calls
    assert set(await cluster.keys("decisions")) == {f"migrate-{running.instance_id}", f"start-{target_id}"}
    item = await cluster.etcd.get(decision_key(cluster.prefix, f"migrate-{running.instance_id}"))
    assert item is not None
    record = decode_record(state_pb2.DecisionRecord, item.value)
    assert record.kind == state_pb2.DECISION_KIND_MIGRATE
    assert (record.instance_id, record.target_instance_id) == (running.instance_id, target_id)
    assert (await running.client.granted("m", "g3")).instance_id == running.instance_id
    await running.client.release("g3")
    assert running.source.migrate_calls == []

    running.target.released.set()
    assert (await moving)[0].stage == DONE


async def test_a_source_whose_generations_move_gets_no_new_ones(running: Running) -> None:
    running.source.handovers_released.clear()
    moving = asyncio.ensure_future(running.client.migrated("m", THERE))
    await running.source.until(lambda: running.source.migrate_calls)

    granted = await running.client.granted("m", "g3")
    during = await states(running.client)

    assert granted.instance_id == running.moved_to
    assert during == {running.instance_id: (READY, 2), running.moved_to: (READY, 1)}
    running.source.handovers_released.set()
    assert (await moving)[0].moved == 2
    assert await states(running.client) == {running.moved_to: (READY, 3)}


async def test_a_migration_goes_on_when_its_call_is_cancelled(cluster: Cluster, running: Running) -> None:
    running.target.hold()
    call = running.client.migrating("m", THERE)
    assert [one.stage async for one in first(call)] == [cluster_pb2.MIGRATION_STAGE_STARTING]
    call.cancel()
    running.target.released.set()

    await cluster.until_keys("instances", lambda names: names == set(running.target.instances))
    assert running.target.generations(running.moved_to) == {"g1", "g2"}


async def first(call):
    async for event in call:
        yield event.migrations[0]
        return


async def test_asking_again_joins_what_is_under_way_and_asking_after_it_finds_nothing_to_do(running: Running) -> None:
    running.source.handovers_released.clear()
    both = [asyncio.ensure_future(running.client.migrated("m", THERE)) for _ in range(2)]
    await running.source.until(lambda: running.source.migrate_calls)
    while (await running.client.status()).instances[0].state != READY:
        pass
    running.source.handovers_released.set()

    assert [(await one)[0].stage for one in both] == [DONE, DONE]
    assert len(running.target.start_calls) == 1
    assert await running.client.migrated("m", THERE) == []


async def test_a_generation_that_arrives_late_moves_too(running: Running) -> None:
    await running.client.granted("m", "late")
    moving = asyncio.ensure_future(running.client.migrated("m", THERE))
    await running.target.until(lambda: running.target.generations(*running.target.instances or [""]) == {"g1", "g2"})
    assert running.source.stop_calls == []

    running.source.set_generations("late")

    assert (await moving)[0].moved == 3
    assert running.target.generations(running.moved_to) == {"g1", "g2", "late"}


async def test_a_grant_that_never_arrives_does_not_hold_a_migration_for_ever(
    cluster: Cluster, running: Running
) -> None:
    await running.client.granted("m", "never")
    moving = asyncio.ensure_future(running.client.migrated("m", THERE))
    await running.target.until(lambda: running.target.generations(*running.target.instances or [""]) == {"g1", "g2"})

    cluster.clock.advance(10)

    assert (await moving)[0].stage == DONE


async def test_what_runs_on_the_target_worker_is_used(cluster: Cluster, running: Running) -> None:
    for name in ("a", "b"):  # the source is full with them, so that an instance starts on the other worker
        await running.client.granted("m", name)
    other = await running.client.granted("m", "c")
    assert other.worker_address == running.target.address
    running.source.set_generations("g1", "g2", "a", "b")

    (status,) = await running.client.migrated("m", THERE)

    assert (status.target_instance_id, status.moved) == (other.instance_id, 4)
    assert len(running.target.start_calls) == 1


async def test_generations_that_stay_leave_their_instance_serving(cluster: Cluster, running: Running) -> None:
    running.source.staying = {"g2"}

    with pytest.raises(AbortedError, match="it is too long") as stayed:
        await running.client.migrated("m", THERE)

    assert stayed.value.reason == "GENERATIONS_STAYED"
    assert await states(running.client) == {running.instance_id: (READY, 1), running.moved_to: (READY, 1)}
    assert running.source.stop_calls == []
    await cluster.until_keys("decisions", lambda names: not names)
    running.source.staying = set()
    assert (await running.client.migrated("m", THERE))[0].stage == DONE


async def test_a_target_that_does_not_start_leaves_the_source_serving(cluster: Cluster, running: Running) -> None:
    running.target.errors = [ResourceExhaustedError("the pool is too small", reason="POOL_TOO_SMALL")]

    with pytest.raises(ResourceExhaustedError) as failed:
        await running.client.migrated("m", THERE)

    assert failed.value.reason == "POOL_TOO_SMALL"
    assert running.source.migrate_calls == []
    assert (await running.client.granted("m", "g3")).instance_id == running.instance_id
    await cluster.until_keys("decisions", lambda names: not names)
    assert await cluster.keys("instances") == [running.instance_id]


async def test_a_source_that_refuses_serves_on_and_the_target_is_left_to_keep_alive(
    cluster: Cluster, running: Running
) -> None:
    running.source.migrate_errors = [FailedPreconditionError("not now", reason="CANNOT_MIGRATE")]

    with pytest.raises(FailedPreconditionError) as refused:
        await running.client.migrated("m", THERE)

    assert refused.value.reason == "CANNOT_MIGRATE"
    assert await states(running.client) == {running.instance_id: (READY, 2), running.moved_to: (READY, 0)}
    await cluster.until_keys("decisions", lambda names: not names)
    target_id = running.moved_to
    cluster.clock.advance(301)
    await running.target.until(lambda: running.target.stop_calls == [target_id])


async def test_a_source_that_is_lost_ends_its_migration(cluster: Cluster, running: Running) -> None:
    running.source.handovers_released.clear()
    moving = asyncio.ensure_future(running.client.migrated("m", THERE))
    await running.source.until(lambda: running.source.migrate_calls)

    await cluster.remove(running.source)

    with pytest.raises(UnavailableError):
        await moving
    await cluster.until_keys("instances", lambda names: names == set(running.target.instances))
    assert await cluster.until_keys("decisions", lambda names: not names) == set()


async def test_a_target_that_is_lost_leaves_the_source_serving(cluster: Cluster, running: Running) -> None:
    running.source.handovers_released.clear()
    moving = asyncio.ensure_future(running.client.migrated("m", THERE))
    await running.source.until(lambda: running.source.migrate_calls)

    await cluster.remove(running.target)
    await cluster.until_keys("instances", lambda names: names == {running.instance_id})
    running.source.handovers_released.set()

    with pytest.raises(UnavailableError) as lost:
        await moving
    assert lost.value.reason == "MIGRATION_TARGET_LOST"
    assert (await running.client.granted("m", "g3")).instance_id == running.instance_id
    await cluster.until_keys("decisions", lambda names: not names)


async def test_several_instances_go_to_one(cluster: Cluster) -> None:
    for node_id in ("n1", "n2"):
        await cluster.add_node(node_id)
    sources = [await cluster.add_worker(f"n1/w{number}") for number in (1, 2)]
    await cluster.add_model("m", concurrency_target=1)
    client = await cluster.start_scheduler()
    for name, worker in zip(("g1", "g2"), sources, strict=True):
        await client.granted("m", name)
        worker.set_generations(name)
    target = await cluster.add_worker(THERE)
    await until_registered(client, 3)

    moved = await client.migrated("m", THERE)

    assert [(one.stage, one.moved) for one in moved] == [(DONE, 1), (DONE, 1)]
    ((name, _),) = target.instances.items()
    assert target.generations(name) == {"g1", "g2"}
    assert [len(worker.stop_calls) for worker in sources] == [1, 1]


async def test_only_what_runs_where_it_was_asked_from_moves(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    workers = [await cluster.add_worker(f"n1/w{number}") for number in (1, 2, 3)]
    await cluster.add_model("m", concurrency_target=1)
    client = await cluster.start_scheduler()
    for name in ("g1", "g2"):
        await client.granted("m", name)

    moving = asyncio.ensure_future(client.migrated("m", "n1/w3", "n1/w2"))
    await workers[1].until(lambda: workers[1].migrate_calls)
    workers[1].set_generations("g2")

    assert [one.moved for one in await moving] == [1]
    assert (workers[0].stop_calls, len(workers[1].stop_calls)) == ([], 1)


async def until_registered(client: Client, workers: int) -> None:
    async with asyncio.timeout(10):
        while sum(len(node.workers) for node in (await client.status()).nodes) != workers:
            pass


@pytest.mark.parametrize(
    ("model", "to", "source", "kind", "reason"),
    [
        ("nothing", THERE, "", NotFoundError, "MODEL_NOT_FOUND"),
        ("m", "n9/w9", "", NotFoundError, "WORKER_UNKNOWN"),
        ("m", THERE, "n9/w9", NotFoundError, "WORKER_UNKNOWN"),
        ("idle", THERE, "", FailedPreconditionError, "MODEL_NOT_RUNNING"),
        ("m", THERE, THERE, FailedPreconditionError, "MODEL_NOT_RUNNING"),
    ],
)
async def test_what_cannot_be_moved_is_refused(
    cluster: Cluster, running: Running, model: str, to: str, source: str, kind: type[KindlingError], reason: str
) -> None:
    await running.client.deploy("idle")
    with pytest.raises(kind) as refused:
        await running.client.migrated(model, to, source)
    assert refused.value.reason == reason


async def test_a_full_worker_is_refused_and_named(cluster: Cluster, running: Running) -> None:
    await running.client.deploy("other")
    assert (await running.client.granted("other")).worker_address == running.target.address

    with pytest.raises(ResourceExhaustedError, match="it runs other; make room") as refused:
        await running.client.migrated("m", THERE)

    assert refused.value.reason == "NO_FREE_SLOT"
    assert (await running.client.granted("m")).instance_id == running.instance_id

"""What the scheduler's store and election promise, over a real etcd and over the simulated one alike."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace

import pytest

from kindling.platform.errors import FailedPreconditionError
from kindling.platform.etcd import EtcdClient
from kindling.platform.etcd_records import encode_record, leader_key, node_key, residency_key, worker_key
from kindling.scheduler.domain.answers import Answer
from kindling.scheduler.domain.quotas import Quota, TenantQuota
from kindling.scheduler.domain.values import (
    Checkpoint,
    Drain,
    Instance,
    InstanceState,
    LoadReport,
    Migration,
    Model,
    Node,
    Residency,
    Retirement,
    Worker,
)
from kindling.scheduler.ports import Closing, NodeGone, Records, ResidencyGone, Store, TopologyChange, WorkerGone
from kindling.v1 import state_pb2
from support.etcd_worlds import Check, World

Run = Callable[[Check], None]
INSTANCE = Instance("m-1", "m", "blake3:m", "n1/w1", InstanceState.STARTING, 5.0, 0.5)
READY = replace(INSTANCE, state=InstanceState.READY, report=LoadReport(complete=True))
MODEL = Model("m", Checkpoint("blake3:m", 1000, 100, 10), source_uri="file:///m", create_time=5.0)


async def records_of(store: Store) -> Records:
    async with aclosing(store.follow()) as updates:
        records = await anext(updates)
    assert isinstance(records, Records)
    return records


async def decisions(etcd: EtcdClient, world: World) -> list[str]:
    snapshot = await etcd.get_prefix(f"{world.prefix}decisions/")
    return [item.key.rsplit("/", 1)[-1] for item in snapshot.items]


def test_an_instance_and_its_decisions_come_and_go_together(run: Run) -> None:
    async def check(world: World) -> None:
        async with world.client() as etcd, world.election(etcd, "s1").campaign() as office:
            await office.store.record_start(INSTANCE, "a request waits")
            assert (await records_of(office.store)).instances == (INSTANCE,)
            assert await decisions(etcd, world) == ["start-m-1"]
            await office.store.record_ready(READY)
            assert (await records_of(office.store)).instances == (READY,)
            assert await decisions(etcd, world) == []
            stopping = replace(READY, state=InstanceState.STOPPING)
            await office.store.record_stop(stopping, "idle")
            assert (await records_of(office.store)).instances == (stopping,)
            assert await decisions(etcd, world) == ["stop-m-1"]
            await office.store.forget_instances(["m-1"])
            assert await records_of(office.store) == Records()
            assert await decisions(etcd, world) == []

    run(check)


def test_a_migration_is_recorded_with_the_start_of_its_target(run: Run) -> None:
    async def check(world: World) -> None:
        async with world.client() as etcd, world.election(etcd, "s1").campaign() as office:
            await office.store.record_ready(READY)
            target = replace(INSTANCE, instance_id="m-2", worker_id="n1/w2")
            await office.store.record_migration(Migration("m-1", "m-2"), "asked for", target)
            records = await records_of(office.store)
            assert records.migrations == (Migration("m-1", "m-2"),)
            assert records.instances == (READY, target)
            assert await decisions(etcd, world) == ["migrate-m-1", "start-m-2"]
            await office.store.forget_migration(Migration("m-1", "m-2"))
            assert (await records_of(office.store)).migrations == ()
            await office.store.record_migration(Migration("m-1", "m-2"), "asked for", None)
            await office.store.forget_instances(["m-1", "m-2"])
            assert await decisions(etcd, world) == []

    run(check)


def test_models_drains_and_quotas_are_kept_for_the_next_leader(run: Run) -> None:
    quotas = tuple(TenantQuota(name, Quota(1, 2, 3, 4)) for name in ("", "*", "acme"))

    async def check(world: World) -> None:
        async with world.client() as etcd:
            async with world.election(etcd, "s1").campaign() as office:
                await office.store.put_model(MODEL, None)
                await office.store.put_drain(Drain("n1"))
                for quota in quotas:
                    await office.store.put_quota(quota)
            async with world.election(etcd, "s2").campaign() as office:
                records = await records_of(office.store)
                assert (records.models, records.drains) == ((MODEL,), (Drain("n1"),))
                await office.store.delete_model("m", None, None)
                await office.store.delete_drain("n1")
                assert records.quotas == quotas
                for quota in quotas:
                    await office.store.delete_quota(quota.tenant)
                assert await records_of(office.store) == Records()

    run(check)


def test_a_deletion_is_recorded_with_what_is_left_to_do_and_its_answer(run: Run) -> None:
    deployed, deleted = Answer("r1", "m", MODEL, 5.0), Answer("r2", "m", None, 6.0)

    async def check(world: World) -> None:
        async with world.client() as etcd, world.election(etcd, "s1").campaign() as office:
            await office.store.put_model(MODEL, Closing(deployed))
            assert await records_of(office.store) == Records(models=(MODEL,), answers=(deployed,))
            await office.store.delete_model("m", Retirement("blake3:m"), Closing(deleted, ("r1",)))
            assert await records_of(office.store) == Records(retirements=(Retirement("blake3:m"),), answers=(deleted,))
            await office.store.put_model(MODEL, None)
            assert (await records_of(office.store)).retirements == (), "it has a model again"
            await office.store.delete_model("m", Retirement("blake3:m"), None)
            await office.store.forget_retirement("blake3:m")
            assert await records_of(office.store) == Records(answers=(deleted,))

    run(check)


def test_nodes_workers_and_residency_are_followed(run: Run) -> None:
    node = state_pb2.NodeRecord(node_id="n1", storage_address="n1:1")
    worker = state_pb2.WorkerRecord(worker_id="n1/w1", node_id="n1", address="w1:1", device="cpu", slots=2)
    held = state_pb2.ResidencyRecord(node_id="n1", digest="blake3:m")

    async def check(world: World) -> None:
        prefix = world.prefix
        async with world.client() as etcd, world.election(etcd, "s1").campaign() as office:
            await etcd.put(node_key(prefix, "n1"), encode_record(node))
            async with asyncio.timeout(10), aclosing(office.store.follow()) as updates:
                assert await anext(updates) == Records(nodes=(Node("n1", "n1:1"),))
                await office.store.put_model(MODEL, None)  # the leader's own writes are no news
                await etcd.put(worker_key(prefix, "n1/w1"), encode_record(worker))
                await etcd.put(residency_key(prefix, "n1", "blake3:m"), encode_record(held))
                await etcd.delete(residency_key(prefix, "n1", "blake3:m"))
                await etcd.delete(worker_key(prefix, "n1/w1"))
                await etcd.delete(node_key(prefix, "n1"))
                changes: list[Records | TopologyChange] = [await anext(updates) for _ in range(5)]
        assert changes == [
            Worker("n1/w1", "n1", "w1:1", "cpu", 2),
            Residency("n1", "blake3:m", {}),
            ResidencyGone("n1", "blake3:m"),
            WorkerGone("n1/w1"),
            NodeGone("n1"),
        ]

    run(check)


def test_a_deposed_leader_changes_nothing(run: Run) -> None:
    async def check(world: World) -> None:
        async with world.client() as etcd, world.election(etcd, "s1").campaign() as office:
            await etcd.delete(leader_key(world.prefix))
            for write in (
                office.store.record_start(INSTANCE, "too late"),
                office.store.put_model(MODEL, None),
                office.store.put_drain(Drain("n1")),
                office.store.put_quota(TenantQuota("acme", Quota())),
            ):
                with pytest.raises(FailedPreconditionError) as told:
                    await write
                assert told.value.reason == "LEADERSHIP_LOST"
            async with asyncio.timeout(10):
                await office.lost()
            assert (await etcd.get_prefix(world.prefix)).items == ()

    run(check)


def test_one_leads_and_the_other_follows_once_it_leaves(run: Run) -> None:
    async def check(world: World) -> None:
        async with world.client() as one, world.client() as other, asyncio.timeout(10):
            told: list[str] = []

            async def stand() -> None:
                async with world.election(other, "s2").campaign() as office:
                    told.append(f"{office.leader.scheduler_id} leads")

            async with asyncio.TaskGroup() as tasks, world.election(one, "s1").campaign() as office:
                tasks.create_task(stand())
                async with aclosing(world.election(other, "s2").leaders()) as leaders:
                    leader = await anext(leaders)
                assert leader is not None
                assert (leader.scheduler_id, leader.address, leader.is_self) == ("s1", "s1:1", False)
                await office.store.put_drain(Drain("n1"))
                told.append("s1 leads no more")
            assert told == ["s1 leads no more", "s2 leads"]

    run(check)

"""Single stories of a model that takes two devices: all of them at once, or none, whoever dies."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from kindling.platform.etcd_records import decode_record, instance_key
from kindling.scheduler.domain.values import Checkpoint, Model, ModelSettings
from kindling.v1 import state_pb2
from support.simulated_cluster import PREFIX, SimulatedCluster
from support.simulated_workers import LOAD_SECONDS, Running
from support.virtual_time import run_virtually
from support.weather import Blow, Fate, Weather

PAIR = Model(
    "pair", Checkpoint("blake3:pair", 3000, 100, 30), ModelSettings(0, 0, 1, keep_alive_seconds=30.0, devices=2)
)
ONE = Model("one", Checkpoint("blake3:one", 1000, 100, 10), ModelSettings(0, 0, 1, keep_alive_seconds=300.0))


def in_cluster(check: Callable[[SimulatedCluster, Weather], Coroutine[Any, Any, None]], *slots: int) -> None:
    """Run a check in a cluster of nodes with two devices of 2000 bytes each, and two schedulers."""
    weather = Weather()

    async def run() -> None:
        cluster = SimulatedCluster(weather, slots or (1, 1), devices=2, memory_bytes=2000)
        for model in (PAIR, ONE):
            cluster.add_model(model)
        async with asyncio.timeout(300), cluster.running():
            await cluster.term()
            await check(cluster, weather)
        assert not cluster.wrongs, cluster.wrongs
        assert not any(worker.refused_starts for worker in cluster.workers.values())

    run_virtually(run())


def running(cluster: SimulatedCluster, model: Model = PAIR) -> Running:
    """The only instance of a model that runs."""
    (found,) = (
        one
        for worker in cluster.workers.values()
        for one in worker.instances.values()
        if one.digest == model.checkpoint.digest
    )
    return found


def devices(cluster: SimulatedCluster) -> list[list[str]]:
    """The workers that each record names, as etcd has them."""
    named = []
    for name in cluster.names("instances"):
        record = decode_record(state_pb2.InstanceRecord, cluster.etcd.value(instance_key(PREFIX, name)).value)
        named.append([record.worker_id, *record.other_worker_ids])
    return named


def test_one_record_takes_all_its_devices_and_gives_them_back() -> None:
    async def check(cluster: SimulatedCluster, _: Weather) -> None:
        await cluster.generate("pair", "g", 0.5)
        assert [worker.worker.worker_id for worker in running(cluster).workers] == ["n1/w", "n1/w2"]
        assert devices(cluster) == [["n1/w", "n1/w2"]]
        await asyncio.sleep(60)
        assert devices(cluster) == []
        assert not any(worker.parts or worker.instances for worker in cluster.workers.values())

    in_cluster(check)


def test_the_loss_of_either_worker_ends_it_and_the_next_one_starts_elsewhere() -> None:
    async def check(cluster: SimulatedCluster, _: Weather, lost: str) -> None:
        await cluster.generate("pair", "g1", 0.5)
        cluster.deregister(cluster.workers[lost])
        await asyncio.sleep(5)
        assert devices(cluster) == []
        assert not any(worker.parts or worker.instances for worker in cluster.workers.values())
        await cluster.generate("pair", "g2", 0.5)
        assert devices(cluster) == [["n2/w", "n2/w2"]]

    for lost in ("n1/w", "n1/w2"):
        in_cluster(lambda cluster, weather, lost=lost: check(cluster, weather, lost))  # type: ignore[misc]


def test_a_start_ends_when_one_of_its_workers_is_lost() -> None:
    async def check(cluster: SimulatedCluster, _: Weather) -> None:
        asking = asyncio.create_task(cluster.generate("pair", "g", 0.5))
        await asyncio.sleep(LOAD_SECONDS / 2)
        assert devices(cluster) == [["n1/w", "n1/w2"]]
        cluster.deregister(cluster.workers["n1/w2"])
        await asking
        assert devices(cluster) == [["n2/w", "n2/w2"]]

    in_cluster(check)


def test_the_part_of_one_whose_first_worker_is_silent_is_given_back() -> None:
    async def check(cluster: SimulatedCluster, _: Weather) -> None:
        await cluster.generate("pair", "g1", 0.5)
        lead, other = cluster.workers["n1/w"], cluster.workers["n1/w2"]
        lead.is_up = False  # for good, though it goes on by itself
        lead.note()
        await asyncio.sleep(10)
        assert (devices(cluster), other.parts) == ([], {})
        for number in range(3):
            await cluster.generate("one", f"g{number + 2}", 0.5)
        await cluster.drain("n2", serves=False)
        await cluster.generate("one", "g9", 0.5)
        assert devices(cluster) == [["n1/w2"]]

    in_cluster(check)


@pytest.mark.parametrize("fate", [Fate.KILL_BEFORE, Fate.KILL_AFTER, Fate.LATE, Fate.LOSE_ANSWER])
@pytest.mark.parametrize("calm", [0, 1, 2, 3])
def test_whenever_the_leader_dies_the_next_one_carries_on(fate: Fate, calm: int) -> None:
    async def check(cluster: SimulatedCluster, weather: Weather) -> None:
        weather.follow([*[Blow()] * calm, Blow(fate, 1.0)])
        await cluster.generate("pair", "g", 0.5)
        weather.clear()
        await asyncio.sleep(5)
        assert len(devices(cluster)) == 1
        (named,) = devices(cluster)
        assert named == [worker.worker.worker_id for worker in running(cluster).workers]
        await asyncio.sleep(60)
        assert devices(cluster) == []
        assert not any(worker.parts or worker.instances for worker in cluster.workers.values())

    in_cluster(check)


def test_idle_ones_leave_and_busy_ones_move_so_that_it_has_its_devices() -> None:
    async def check(cluster: SimulatedCluster, _: Weather) -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(3):
                tasks.create_task(cluster.generate("one", f"g{number}", 60.0 if number else 1.0))
            await asyncio.sleep(5)
            assert sum(len(worker.instances) for worker in cluster.workers.values()) == 3
            tasks.create_task(cluster.generate("pair", "pair", 1.0))
            await asyncio.sleep(10)
            assert len(running(cluster).workers) == 2
            left = [one for worker in cluster.workers.values() for one in worker.instances.values()]
            busy = {name for one in left for name in one.generations}
            assert busy == {"g1", "g2"}, "both go on"

    in_cluster(check)


def test_models_share_a_device_as_far_as_its_memory_goes() -> None:
    async def check(cluster: SimulatedCluster, _: Weather) -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(5):
                tasks.create_task(cluster.generate("one", f"g{number}", 5.0))
            await asyncio.sleep(3)
            there = [len(worker.instances) for worker in cluster.workers.values()]
            assert there == [2, 2], "of the three slots each, two have memory"
        await cluster.generate("pair", "pair", 1.0)
        assert len(running(cluster).workers) == 2, "every one of them has left"

    in_cluster(check, 3)

"""Single stories of leaders that die or are deposed at the worst moment, each of which could end badly."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from typing import Any

from kindling.platform.clock import Clock
from kindling.platform.etcd import Delete, EtcdClient, Put, campaign
from kindling.scheduler.adapters.ordered_writes import OrderedWrites
from kindling.scheduler.domain.values import Checkpoint, Instance, InstanceState, Model, ModelSettings
from support.simulated_cluster import LEASE_SECONDS, SimulatedCluster, SimulatedScheduler
from support.simulated_etcd import SimulatedEtcd
from support.simulated_etcd_client import SimulatedClient
from support.virtual_time import LoopClock, run_virtually
from support.weather import Blow, Fate, Process, Weather

CLOCK: Clock = LoopClock()
MODEL = Model("m", Checkpoint("blake3:m", 1000, 100, 10), ModelSettings(concurrency_target=1, keep_alive_seconds=3.0))
SETTINGS = MODEL.settings


def in_cluster(check: Callable[[SimulatedCluster, Weather], Coroutine[Any, Any, None]]) -> SimulatedCluster:
    """Run a check in a cluster of two workers and two schedulers, of which the first leads."""
    weather = Weather()

    async def run() -> SimulatedCluster:
        cluster = SimulatedCluster(weather)
        async with asyncio.timeout(300), cluster.running():
            await cluster.term()
            await check(cluster, weather)
        return cluster

    return run_virtually(run())


# Writes


def leading_by_itself(scheduler: SimulatedScheduler) -> bool:
    """Whether a scheduler takes itself for the leader."""
    return scheduler.seat.leader is not None and scheduler.seat.leader.is_self


def leading(cluster: SimulatedCluster) -> SimulatedScheduler:
    """The scheduler that takes itself for the leader."""
    return next(one for one in cluster.schedulers if leading_by_itself(one))


async def write_late(etcd: EtcdClient, process: Process, blow: Blow) -> None:
    """A write goes wrong as ``blow`` says; then what it wrote is deleted."""
    async with campaign(etcd, "leader", b"", 60) as leadership:
        writes = OrderedWrites(leadership, "last_write", CLOCK)
        await writes.write([Put("first", b"")])
        process.weather = Weather([blow])
        await writes.write([Put("key", b"")])
        await writes.write([Delete("key")])
        await asyncio.sleep(30)
        assert await etcd.get("key") is None


def test_a_write_that_arrives_late_changes_nothing_any_more() -> None:
    async def check(blow: Blow) -> None:
        process = Process(Weather())
        async with SimulatedClient(SimulatedEtcd(), process) as etcd:
            await write_late(etcd, process, blow)

    for fate in (Fate.LATE, Fate.LOSE_ANSWER, Fate.LOSE_REQUEST, Fate.SLOW):
        run_virtually(check(Blow(fate, 5.0)))


def test_a_write_whose_answer_was_lost_is_not_done_twice() -> None:
    async def check() -> None:
        process = Process(Weather())
        async with SimulatedClient(SimulatedEtcd(), process) as etcd, campaign(etcd, "leader", b"", 60) as leadership:
            writes = OrderedWrites(leadership, "last_write", CLOCK)
            await writes.write([])
            process.weather = Weather([Blow(Fate.LOSE_ANSWER)])
            await writes.write([Put("key", b"")])
            item = await etcd.get("key")
            assert item is not None
            assert item.version == 1

    run_virtually(check())


# Deposed leaders


def test_a_deposed_leader_stops_nothing_that_its_successor_started() -> None:
    async def check(cluster: SimulatedCluster, _: Weather) -> None:
        cluster.add_model(MODEL)
        first = leading(cluster)
        first.process.is_cut_off = True
        cluster.etcd.expire(cluster.leader_lease())  # what it will hear of in two seconds
        (other,) = (one for one in cluster.schedulers if one is not first)
        await asyncio.sleep(0.5)
        assert leading_by_itself(other), "it has won"
        cluster.schedulers.sort(key=lambda one: one is first)  # clients ask the new one
        old = await first.seat.term()
        asking = asyncio.create_task(cluster.generate("m", "g", 5.0))
        await asyncio.sleep(LEASE_SECONDS / 2)
        assert not old.closed, "it still takes itself for the leader"
        assert cluster.names("instances") != []
        first.process.is_cut_off = False
        await asking

    assert in_cluster(check).wrongs == []


# Leaks


def test_a_stranger_is_stopped_even_if_the_first_call_is_lost() -> None:
    async def check(cluster: SimulatedCluster, weather: Weather) -> None:
        (there, *_) = cluster.workers.values()
        await cluster.term()
        await asyncio.sleep(5)
        weather.follow([Blow(), Blow(Fate.LOSE_REQUEST)])  # the report of the stranger, the stop
        there.begin(Instance("stray", "m", "blake3:m", there.worker.worker_id, InstanceState.STARTING))
        await asyncio.sleep(0.01)
        assert "stray" in there.instances
        await asyncio.sleep(5)
        assert there.instances == {}

    in_cluster(check)


def test_a_change_is_seen_through_though_whoever_asked_for_it_goes_away() -> None:
    async def check(cluster: SimulatedCluster, weather: Weather) -> None:
        term = await cluster.term()
        weather.follow([Blow(Fate.SLOW, 1.0)] * 3)
        asking = asyncio.create_task(term.mutations.put_model(MODEL, "r1"))
        await asyncio.sleep(0.5)
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking
        await asyncio.sleep(10)
        assert list(term.view.models) == [model.name for model in cluster.models()] == ["m"]

    in_cluster(check)


def test_the_next_leader_retires_the_checkpoint_of_a_deleted_model() -> None:
    async def check(cluster: SimulatedCluster, weather: Weather) -> None:
        await cluster.deploy("m", "r1", SETTINGS)
        assert cluster.remote == {"blake3:m"}
        await cluster.generate("m", "g", 0.0)
        await cluster.delete("m", "r2")
        assert cluster.names("retirements") == ["blake3:m"], "its instance has yet to stop"
        leading(cluster).kill()
        await asyncio.sleep(20)
        assert (cluster.remote, cluster.names("retirements")) == (set(), [])

    in_cluster(check)


def test_a_retirement_goes_on_until_the_node_has_done_it() -> None:
    async def check(cluster: SimulatedCluster, weather: Weather) -> None:
        await cluster.deploy("m", "r1", SETTINGS)
        weather.follow([Blow(), Blow(), *[Blow(Fate.LOSE_REQUEST)] * 4])
        await cluster.delete("m", "r2")
        await asyncio.sleep(1.5)
        assert cluster.remote == {"blake3:m"}
        await asyncio.sleep(30)
        assert (cluster.remote, cluster.names("retirements")) == (set(), [])

    in_cluster(check)


def test_a_checkpoint_that_has_a_model_again_is_spared() -> None:
    async def check(cluster: SimulatedCluster, _: Weather) -> None:
        await cluster.deploy("m", "r1", SETTINGS)
        await cluster.generate("m", "g", 0.0)
        await cluster.delete("m", "r2")
        await cluster.deploy("m", "r3", SETTINGS)
        assert cluster.names("retirements") == []
        await asyncio.sleep(30)
        assert cluster.remote == {"blake3:m"}

    in_cluster(check)


# Answers


def test_a_mutation_that_is_sent_again_gets_the_same_answer_from_the_next_leader() -> None:
    async def check(cluster: SimulatedCluster, _: Weather) -> None:
        first = await cluster.deploy("m", "r1", SETTINGS)
        other = await cluster.deploy("m", "r2", replace(SETTINGS, max_instances=7))
        leading(cluster).kill()
        assert await cluster.deploy("m", "r1", SETTINGS) == first
        assert cluster.models() == [other], "what was deployed later stays"
        assert await cluster.delete("m", "r3")
        leading(cluster).kill()
        assert await cluster.delete("m", "r3")
        assert not await cluster.delete("m", "r4")

    in_cluster(check)

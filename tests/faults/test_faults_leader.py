"""Real schedulers over a real etcd: the leader is killed between deciding and acting, while it acts, after it acted.

A standby carries on what it decided, once, within the lease.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from kindling.v1 import cluster_pb2
from support.etcd_server import EtcdServer, running_etcd
from support.scheduler_cluster import Client, Cluster, cluster_under_test
from support.scheduler_fakes import FakeStorage, FakeWorker
from support.scheduler_processes import scheduler_process
from support.tcp_relay import TcpRelay, running_relay

pytestmark = pytest.mark.faults
TAKEOVER_SECONDS = 5.0


@dataclass
class Scene:
    """A leader that reaches etcd through a relay, a standby that does not, and two workers."""

    cluster: Cluster
    storage: FakeStorage
    workers: list[FakeWorker]
    relay: TcpRelay
    leader: asyncio.subprocess.Process
    client: Client
    address: str
    standby_address: str
    calls: list[object] = field(default_factory=list)

    def ask(self) -> None:
        """Ask the leader for a place; it will not live to give it."""
        self.calls.append(self.client.acquire("m", "g1"))

    async def recorded(self) -> str:
        """The instance that the leader has decided to start, once etcd has the record."""
        (instance_id,) = await self.cluster.until_keys("instances", bool)
        return instance_id

    async def until_started(self) -> None:
        """Return once a worker was asked to start something."""
        async with asyncio.TaskGroup() as tasks:
            waits = [tasks.create_task(worker.until(lambda: self.started)) for worker in self.workers]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()

    async def kill(self) -> Client:
        """Kill the leader and return a client of the standby, which leads within the lease."""
        self.leader.kill()
        began = time.monotonic()
        await self.leader.wait()
        assert await self.cluster.leader(unlike=self.address) == self.standby_address
        client = await self.cluster.client_of(self.standby_address)
        assert (await client.status()).leader_id == "s2"
        assert time.monotonic() - began <= TAKEOVER_SECONDS
        return client

    def release(self) -> None:
        for worker in self.workers:
            worker.released.set()

    @property
    def started(self) -> set[str]:
        """Every instance that any worker was ever asked to start."""
        return {name for worker in self.workers for name in worker.start_calls}

    @property
    def running(self) -> list[str]:
        return [name for worker in self.workers for name in worker.instances]


@pytest.fixture(scope="module")
def etcd_server() -> Iterator[EtcdServer]:
    with running_etcd() as server:
        yield server


@asynccontextmanager
async def scene_at(endpoint: str) -> AsyncIterator[Scene]:
    async with cluster_under_test(endpoint) as cluster, running_relay(endpoint) as relay:
        storage = await cluster.add_node("n1")
        workers = [await cluster.add_worker("n1/w1"), await cluster.add_worker("n1/w2")]
        await cluster.add_model("m", max_instances=1)
        async with scheduler_process(cluster, "s1", etcd_endpoints=relay.endpoint) as (leader, address):
            assert await cluster.leader() == address
            client = await cluster.client_of(address)
            assert (await client.status()).leader_id == "s1"
            async with scheduler_process(cluster, "s2") as (_, standby_address):
                yield Scene(cluster, storage, workers, relay, leader, client, address, standby_address)


@pytest.fixture
async def scene(etcd_server: EtcdServer) -> AsyncIterator[Scene]:
    async with scene_at(etcd_server.endpoint) as scene:
        yield scene


async def check_carried_on(scene: Scene, client: Client, decided: str) -> None:
    """What was decided runs, once, and the decision is done."""
    scene.release()
    granted = await client.granted("m", "g1")
    await scene.cluster.until_keys("decisions", lambda names: not names)
    assert granted.instance_id == decided
    assert (scene.started, scene.running) == ({decided}, [decided])
    assert await scene.cluster.keys("instances") == [decided]
    assert [one.state for one in (await client.status()).instances] == [cluster_pb2.INSTANCE_STATE_READY]


async def test_killed_between_deciding_and_acting(scene: Scene) -> None:
    scene.relay.drop_answers()  # etcd has the record, and the leader never learns that it may act
    scene.ask()
    decided = await scene.recorded()
    assert scene.started == set()
    client = await scene.kill()
    await check_carried_on(scene, client, decided)
    assert [len(worker.start_calls) for worker in scene.workers if worker.start_calls] == [1]


async def test_killed_while_acting(scene: Scene) -> None:
    for worker in scene.workers:
        worker.hold()
    scene.ask()
    decided = await scene.recorded()
    await scene.until_started()
    client = await scene.kill()
    await check_carried_on(scene, client, decided)


async def test_killed_after_it_acted(scene: Scene) -> None:
    for worker in scene.workers:
        worker.hold()
    scene.ask()
    decided = await scene.recorded()
    await scene.until_started()
    scene.relay.freeze()  # the instance gets ready, and etcd never hears of it
    scene.release()
    async for event in scene.calls[0]:
        if event.HasField("granted"):
            break
    client = await scene.kill()
    assert await scene.cluster.keys("decisions") in ([f"start-{decided}"], [])
    await check_carried_on(scene, client, decided)


async def test_killed_before_the_checkpoint_of_a_deleted_model_is_gone(scene: Scene) -> None:
    await scene.client.granted("m", "g1")
    (worker,) = (worker for worker in scene.workers if worker.instances)
    worker.set_generations("g1")
    await scene.client.delete("m", "r1")
    assert await scene.cluster.keys("retirements") == ["blake3:m"]
    client = await scene.kill()
    await client.delete("m", "r1")
    assert scene.storage.deleted == [], "a generation still runs"
    worker.set_generations()
    await scene.cluster.until_keys("retirements", lambda names: not names)
    assert scene.storage.deleted == ["blake3:m"]

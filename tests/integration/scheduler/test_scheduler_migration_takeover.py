"""A leader killed in the middle of a migration: its successor finishes it, or has the source serve again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from support.scheduler_cluster import Client, Cluster
from support.scheduler_fakes import FakeWorker
from support.scheduler_processes import scheduler_process

LEASE_SECONDS = 2.0  # some of these tests wait for the end of one

pytestmark = pytest.mark.faults
THERE = "n2/w1"


class Step:
    """A step of a migration that does not end by itself."""

    def __init__(self, source: FakeWorker, target: FakeWorker, name: str) -> None:
        self._worker = target if name == "starting" else source
        self._release, self.calls = {
            "starting": (target.released, target.start_calls),
            "moving": (source.handovers_released, source.migrate_calls),
            "stopping": (source.stops_released, source.stop_calls),
        }[name]
        self._release.clear()

    async def reached(self, calls: int) -> None:
        await self._worker.until(lambda: len(self.calls) >= calls)

    def let_go_on(self) -> None:
        self._release.set()


@asynccontextmanager
async def killed_while_migrating(
    cluster: Cluster, step: str
) -> AsyncIterator[tuple[FakeWorker, FakeWorker, Step, str, asyncio.subprocess.Process]]:
    """A leader that has taken a migration of g1 up to a step; killed, with a standby in its place, on demand."""
    for node_id in ("n1", "n2"):
        await cluster.add_node(node_id)
    source = await cluster.add_worker("n1/w1")
    await cluster.add_model("m", concurrency_target=4)
    async with scheduler_process(cluster, "s1") as (leader, address):
        assert await cluster.leader() == address
        client = await cluster.client_of(address)
        await client.granted("m", "g1")
        source.set_generations("g1")
        target = await cluster.add_worker(THERE)
        await until_known(client)
        held = Step(source, target, step)
        call = client.migrating("m", THERE)
        await held.reached(1)
        async with scheduler_process(cluster, "s2"):
            leader.kill()
            await leader.wait()
            call.cancel()
            yield source, target, held, address, leader


async def until_known(client: Client) -> None:
    async with asyncio.timeout(10):
        while sum(len(node.workers) for node in (await client.status()).nodes) != 2:
            pass


@pytest.mark.parametrize("step", ["starting", "moving", "stopping"])
async def test_the_next_leader_finishes_a_migration(cluster: Cluster, step: str) -> None:
    async with killed_while_migrating(cluster, step) as (source, target, held, address, _):
        client = await cluster.client_of(await cluster.leader(unlike=address))
        await held.reached(2)
        held.let_go_on()

        (target_id,) = target.instances
        await cluster.until_keys("instances", lambda names: names == {target_id})
        await cluster.until_keys("decisions", lambda names: not names)
        assert target.generations(target_id) == {"g1"}
        assert source.instances == {}
        assert len(set(target.start_calls)) == 1, "no second target"
        assert (await client.granted("m")).instance_id == target_id


@pytest.mark.parametrize("step", ["starting", "moving"])
async def test_without_its_target_a_migration_is_taken_back(cluster: Cluster, step: str) -> None:
    async with killed_while_migrating(cluster, step) as (source, target, held, address, _):
        (source_id,) = source.instances
        await cluster.remove(target)
        client = await cluster.client_of(await cluster.leader(unlike=address))
        held.let_go_on()

        await cluster.until_keys("instances", lambda names: names == {source_id})
        await cluster.until_keys("decisions", lambda names: not names)
        assert (await client.granted("m", "g2")).instance_id == source_id
        assert source.stop_calls == []

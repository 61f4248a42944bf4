"""While etcd is away what runs goes on; what has to be recorded waits, and nothing is forgotten."""

import asyncio

import pytest

from support.etcd_server import running_etcd
from support.scheduler_cluster import cluster_under_test

pytestmark = pytest.mark.faults


async def test_warm_requests_are_served_and_cold_ones_wait_while_etcd_is_away() -> None:
    with running_etcd() as etcd:
        async with cluster_under_test(etcd.endpoint) as cluster:
            await cluster.add_node("n1")
            workers = [await cluster.add_worker(f"n1/w{number}") for number in range(2)]
            await cluster.add_model("a", "blake3:a")
            await cluster.add_model("b", "blake3:b")
            client = await cluster.start_scheduler(lease_ttl_seconds=60)
            first = await client.granted("a", "g1")
            await cluster.until_keys("decisions", lambda names: not names)

            etcd.kill()
            warm = await client.granted("a", "g2")
            asking = asyncio.ensure_future(client.granted("b", "g3"))
            while len((await client.status()).instances) < 2:
                cluster.clock.advance(0.001)
            assert sum(len(worker.start_calls) for worker in workers) == 1, "nothing is begun before it is recorded"
            await etcd.restart_async()
            while not asking.done():
                cluster.clock.advance(0.1)  # the pauses between attempts to write
                await client.status()

            assert warm.instance_id == first.instance_id
            assert (await asking).instance_id in await cluster.keys("instances")
            assert sum(len(worker.start_calls) for worker in workers) == 2

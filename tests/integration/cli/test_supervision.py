"""A running cluster heals: whatever child is killed comes back, in the same place, by itself."""

import asyncio

import pytest

from kindling.cli.client import connect
from support.cluster import cluster_options, running_cluster


async def leader_of(address):
    async with connect(address) as client:
        return (await client.status()).leader_id


@pytest.mark.slow
def test_killed_children_are_started_again(tmp_path):
    with running_cluster(cluster_options(tmp_path / "data")) as running:
        for name in ("scheduler-0", "gateway", "etcd"):
            before = running.kill(name)
            running.wait_restarted(name, before)
        running.wait_ready()
        assert asyncio.run(leader_of(running.grpc_address)) == "scheduler-0"
        assert [notice.split(" ended")[0] for notice in running.notices] == ["scheduler-0", "gateway", "etcd"]

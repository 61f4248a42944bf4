"""Workers tell what their devices hold, and clients are told what to do where none holds enough."""

import asyncio

import pytest

from kindling.platform.errors import FailedPreconditionError
from support.scheduler_cluster import Cluster


async def test_a_model_goes_to_the_device_that_holds_it(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    small = await cluster.add_worker("n1/w1", memory_bytes=999)
    large = await cluster.add_worker("n1/w2", memory_bytes=1000)
    await cluster.add_model("m", total_bytes=1000)
    client = await cluster.start_scheduler()

    granted = await client.granted("m")

    assert granted.worker_address == large.address
    assert small.start_calls == []
    with pytest.raises(FailedPreconditionError) as refused:
        await client.migrated("m", "n1/w1")
    assert refused.value.reason == "DEVICE_TOO_SMALL"


async def test_a_model_that_no_device_holds_is_refused_until_one_does(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    await cluster.add_worker("n1/w1", memory_bytes=999)
    await cluster.add_model("m", total_bytes=1000)
    client = await cluster.start_scheduler()
    while not any(node.workers for node in (await client.status()).nodes):
        pass

    with pytest.raises(FailedPreconditionError) as refused:
        await client.granted("m")
    assert refused.value.reason == "NO_DEVICE_LARGE_ENOUGH"
    assert (refused.value.metadata["needed_bytes"], refused.value.metadata["largest_device_bytes"]) == ("1000", "999")

    large = await cluster.add_worker("n1/w2", memory_bytes=2000)
    async with asyncio.timeout(10):
        while sum(len(node.workers) for node in (await client.status()).nodes) != 2:
            pass
    assert (await client.granted("m")).worker_address == large.address

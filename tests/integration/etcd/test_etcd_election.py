import asyncio
import sys
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import pytest

from kindling.platform.errors import FailedPreconditionError
from kindling.platform.etcd import EtcdClient, Get, Put, absent, campaign
from support.etcd_server import EtcdServer

SERVICES = Path(__file__).parents[3] / "services"
CANDIDATE = """
import asyncio, sys
from kindling.platform.etcd import EtcdClient, campaign

async def main(endpoint, key):
    async with EtcdClient([endpoint]) as client, campaign(client, key, b"other process", 1):
        print("leading", flush=True)
        await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


async def is_led_by(client: EtcdClient, key: str, value: bytes) -> bool:
    item = await client.get(key)
    return item is not None and item.value == value


async def test_a_candidate_alone_leads_and_leaves_no_trace(client: EtcdClient, prefix: str) -> None:
    async with campaign(client, prefix, b"me", 5) as leadership:
        assert await is_led_by(client, prefix, b"me")
        assert not leadership.lost.is_set()
    assert leadership.lost.is_set()
    assert await client.get(prefix) is None


@pytest.mark.parametrize("resigns", [True, False])
async def test_the_next_leads_once_the_leader_leaves(client: EtcdClient, prefix: str, resigns: bool) -> None:
    async def succeed() -> None:
        async with campaign(client, prefix, b"second", 5) as leadership:
            assert leadership.revision > first.revision
            assert first.lost.is_set()

    async with asyncio.timeout(4), asyncio.TaskGroup() as tasks, campaign(client, prefix, b"first", 60) as first:
        tasks.create_task(succeed())
        if resigns:
            await first.resign()


async def test_of_many_candidates_one_leads_at_a_time(shared_etcd: EtcdServer, prefix: str) -> None:
    leading: list[int] = []
    most_at_once: list[int] = []

    async def stand(number: int) -> None:
        async with EtcdClient([shared_etcd.endpoint]) as client, campaign(client, prefix, b"", 5) as leadership:
            leading.append(number)
            most_at_once.append(len(leading))
            await leadership.transact([], [Put(f"{prefix}/led", b"%d" % number)])
            leading.remove(number)

    async with asyncio.TaskGroup() as tasks:
        for number in range(5):
            tasks.create_task(stand(number))
    assert most_at_once == [1] * 5


@pytest.mark.faults
async def test_a_killed_leader_is_followed_when_its_ttl_is_over(
    client: EtcdClient, shared_etcd: EtcdServer, prefix: str
) -> None:
    command = (sys.executable, "-c", CANDIDATE, shared_etcd.endpoint, prefix)
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, env={"PYTHONPATH": str(SERVICES)}
    )
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == b"leading\n"
        assert await is_led_by(client, prefix, b"other process")
    finally:
        process.kill()
        await process.wait()
    async with asyncio.timeout(10), campaign(client, prefix, b"me", 5):
        assert await is_led_by(client, prefix, b"me")


async def test_a_deposed_leader_changes_nothing(client: EtcdClient, prefix: str) -> None:
    key, data = f"{prefix}leader", f"{prefix}data"
    async with AsyncExitStack() as stack:
        old = await stack.enter_async_context(campaign(client, key, b"old", 60))
        await old.transact([], [Put(data, b"old's first")])
        await client.delete(key)
        async with asyncio.timeout(5):
            await old.lost.wait()
        new = await stack.enter_async_context(campaign(client, key, b"new", 60))
        await new.transact([], [Put(data, b"new's")])
        with pytest.raises(FailedPreconditionError) as caught:
            await old.transact([], [Put(data, b"old's second")])
        assert caught.value.reason == "LEADERSHIP_LOST"
        assert not (await client.transact([old.fence], [Put(data, b"old's third")])).succeeded
        item = await client.get(data)
    assert item is not None
    assert item.value == b"new's"


async def test_a_deposed_leader_does_not_delete_its_successors_key(client: EtcdClient, prefix: str) -> None:
    async with AsyncExitStack() as stack:
        async with campaign(client, prefix, b"old", 60):
            await client.delete(prefix)
            await stack.enter_async_context(campaign(client, prefix, b"new", 60))
        assert await is_led_by(client, prefix, b"new")


async def test_a_leaders_transaction_fails_on_its_own_conditions_as_usual(client: EtcdClient, prefix: str) -> None:
    data = f"{prefix}data"
    async with campaign(client, f"{prefix}leader", b"", 60) as leadership:
        written = await leadership.transact([absent(data)], [Put(data, b"1")])
        refused = await leadership.transact([absent(data)], [Put(data, b"2")], [Get(data)])
    assert written.succeeded
    assert not refused.succeeded
    assert len(refused.responses) == 1


@pytest.mark.faults
async def test_a_candidate_waits_through_an_outage(own_etcd: EtcdServer) -> None:
    async def stand(client: EtcdClient) -> None:
        async with campaign(client, "leader", b"second", 1):
            assert await is_led_by(client, "leader", b"second")

    async with (
        EtcdClient([own_etcd.endpoint]) as client,
        asyncio.timeout(30),
        asyncio.TaskGroup() as tasks,
        campaign(client, "leader", b"first", 1) as first,
        aclosing(client.watch("leader")) as updates,
    ):
        await anext(updates)
        tasks.create_task(stand(client))
        own_etcd.kill()
        await first.lost.wait()
        await own_etcd.restart_async()

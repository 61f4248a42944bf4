import asyncio
from contextlib import aclosing

import pytest

from kindling.platform.errors import InvalidArgumentError
from kindling.platform.etcd import Batch, EtcdClient, EventKind
from support.etcd_server import EtcdServer


async def test_a_lease_outlives_its_ttl_while_it_is_held(client: EtcdClient, prefix: str) -> None:
    async with client.lease(1) as lease:
        await client.put(prefix, b"", lease_id=lease.lease_id)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(lease.ttl_seconds * 1.5):
                await lease.lost.wait()
        item = await client.get(prefix)
    assert item is not None
    assert item.lease_id == lease.lease_id


async def test_keys_go_with_the_context(client: EtcdClient, prefix: str) -> None:
    async with client.lease(60) as lease:
        await client.put(prefix, b"", lease_id=lease.lease_id)
    assert lease.lost.is_set()
    assert await client.get(prefix) is None


async def test_the_bodys_error_leaves_as_it_is_and_the_keys_go(client: EtcdClient, prefix: str) -> None:
    async def hold() -> None:
        async with client.lease(60) as lease:
            await client.put(prefix, b"", lease_id=lease.lease_id)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await hold()
    assert await client.get(prefix) is None


async def test_a_cancelled_body_revokes_too(client: EtcdClient, prefix: str) -> None:
    async def hold() -> None:
        async with client.lease(60) as lease:
            await client.put(prefix, b"", lease_id=lease.lease_id)
            await lease.lost.wait()

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(hold(), timeout=0.5)
    assert await client.get(prefix) is None


async def test_a_lease_revoked_by_somebody_else_is_lost(client: EtcdClient, shared_etcd: EtcdServer) -> None:
    async with client.lease(1) as lease:
        shared_etcd.call_json("/v3/lease/revoke", {"ID": str(lease.lease_id)})
        async with asyncio.timeout(10):
            await lease.lost.wait()


async def test_a_dead_holders_keys_go_when_the_ttl_is_over(
    client: EtcdClient, shared_etcd: EtcdServer, prefix: str
) -> None:
    granted = shared_etcd.call_json("/v3/lease/grant", {"TTL": "1"})
    kinds: list[EventKind] = []
    async with asyncio.timeout(20), aclosing(client.watch_key(prefix)) as updates:
        await anext(updates)  # begun before the key is there: nothing of it can be missed
        await client.put(prefix, b"", lease_id=int(granted["ID"]))
        while EventKind.DELETE not in kinds:
            batch = await anext(updates)
            assert isinstance(batch, Batch)
            kinds += [event.kind for event in batch.events]
    assert kinds == [EventKind.PUT, EventKind.DELETE]


@pytest.mark.faults
async def test_a_lease_is_lost_when_etcd_stays_away_longer_than_the_ttl(own_etcd: EtcdServer) -> None:
    async with EtcdClient([own_etcd.endpoint]) as client, client.lease(1) as lease:
        own_etcd.kill()
        async with asyncio.timeout(lease.ttl_seconds + 1):
            await lease.lost.wait()
        await own_etcd.restart_async()


@pytest.mark.faults
async def test_a_lease_survives_a_restart_within_the_ttl(own_etcd: EtcdServer) -> None:
    async with EtcdClient([own_etcd.endpoint]) as client, client.lease(4) as lease:
        await client.put("a", b"", lease_id=lease.lease_id)
        own_etcd.kill()
        await own_etcd.restart_async()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await lease.lost.wait()
        assert await client.get("a") is not None


@pytest.mark.faults
async def test_leaving_does_not_hang_when_etcd_is_gone(own_etcd: EtcdServer) -> None:
    async with EtcdClient([own_etcd.endpoint]) as client:
        async with asyncio.timeout(4):
            async with client.lease(60):
                own_etcd.kill()


async def test_a_ttl_must_be_positive(client: EtcdClient) -> None:
    for ttl_seconds in (0, -1, float("nan"), float("inf")):
        with pytest.raises(InvalidArgumentError, match="positive"):
            async with client.lease(ttl_seconds):
                raise AssertionError("granted")

"""TenantService of a real scheduler over a real etcd, and what a new one makes of the records."""

import asyncio

import pytest

from kindling.platform.errors import InvalidArgumentError, ResourceExhaustedError
from kindling.platform.rpc.channel import remote_errors
from kindling.v1 import scheduler_pb2, tenant_pb2, tenant_pb2_grpc
from support.scheduler_cluster import Client, Cluster

_SECONDS = 10


async def set_tenant(client: Client, tenant: str, **quota: int) -> tenant_pb2.TenantQuota:
    request = tenant_pb2.SetTenantRequest(tenant=tenant, **quota)  # type: ignore[arg-type]
    with remote_errors("scheduler"):
        return (await tenant_pb2_grpc.TenantServiceStub(client.channel).SetTenant(request, timeout=_SECONDS)).quota


async def tenants(client: Client) -> dict[str, tenant_pb2.TenantStatus]:
    stub = tenant_pb2_grpc.TenantServiceStub(client.channel)
    answer = await stub.ListTenants(tenant_pb2.ListTenantsRequest(), timeout=_SECONDS)
    return {one.tenant: one for one in answer.tenants}


async def remove(client: Client, tenant: str) -> bool:
    stub = tenant_pb2_grpc.TenantServiceStub(client.channel)
    with remote_errors("scheduler"):
        request = tenant_pb2.RemoveTenantRequest(tenant=tenant)
        return (await stub.RemoveTenant(request, timeout=_SECONDS)).removed


async def acquire(client: Client, generation_id: str, tenant: str) -> scheduler_pb2.AcquireResponse:
    """Ask for a place; returns the last event."""
    request = scheduler_pb2.AcquireRequest(generation_id=generation_id, model="m", tenant=tenant)
    with remote_errors("scheduler"):
        async with asyncio.timeout(_SECONDS):
            return [event async for event in client.scheduler.Acquire(request)][-1]


async def test_quotas_are_set_one_by_one_listed_and_removed(cluster: Cluster) -> None:
    client = await cluster.start_scheduler()
    await set_tenant(client, "acme", generations=3, waiting=4)
    quota = await set_tenant(client, "acme", waiting=0, devices=2, weight=5)
    assert quota == tenant_pb2.TenantQuota(generations=3, devices=2, weight=5)
    await set_tenant(client, "*", generations=1)
    await set_tenant(client, "", weight=2)
    listed = await tenants(client)
    assert list(listed) == ["", "*", "acme"]
    assert listed["acme"] == tenant_pb2.TenantStatus(tenant="acme", quota=quota, has_own_quota=True)
    assert await remove(client, "acme")
    assert not await remove(client, "acme")
    assert list(await tenants(client)) == ["", "*"]
    assert await cluster.keys("tenants") == ["", "*"]


@pytest.mark.parametrize(
    ("tenant", "quota", "reason"),
    [
        ("a/b", {"waiting": 1}, "TENANT_INVALID"),
        ("acme", {"weight": 0}, "TENANT_WEIGHT_INVALID"),
        ("acme", {"weight": 1001}, "TENANT_WEIGHT_INVALID"),
    ],
)
async def test_bad_quotas_are_refused(cluster: Cluster, tenant: str, quota: dict[str, int], reason: str) -> None:
    client = await cluster.start_scheduler()
    with pytest.raises(InvalidArgumentError) as refused:
        await set_tenant(client, tenant, **quota)
    assert refused.value.reason == reason
    assert await cluster.keys("tenants") == []


async def test_a_raised_quota_lets_in_who_waits(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    await cluster.add_worker("n1/w1")
    await cluster.add_model("m")
    client = await cluster.start_scheduler()
    await set_tenant(client, "acme", generations=1, waiting=1)
    assert (await acquire(client, "g1", "acme")).HasField("granted")
    waiting = asyncio.create_task(acquire(client, "g2", "acme"))
    async with asyncio.timeout(_SECONDS):
        while not (await tenants(client))["acme"].waiting:
            pass
    with pytest.raises(ResourceExhaustedError) as refused:
        await acquire(client, "g3", "acme")
    assert refused.value.reason == "TENANT_QUOTA_EXCEEDED"
    assert (await acquire(client, "g4", "other")).HasField("granted")
    seen = (await tenants(client))["acme"]
    assert (seen.generations, seen.waiting, seen.devices) == (1, 1, 1)
    assert not waiting.done()
    await set_tenant(client, "acme", generations=2)
    assert (await waiting).HasField("granted")


async def test_the_next_scheduler_knows_quotas_and_devices(cluster: Cluster) -> None:
    await cluster.add_node("n1")
    await cluster.add_worker("n1/w1")
    await cluster.add_model("m")
    client = await cluster.start_scheduler("s1")
    quota = await set_tenant(client, "acme", devices=1)
    await acquire(client, "g1", "acme")
    await cluster.until_keys("decisions", lambda names: not names)
    await cluster.stop_scheduler("s1")
    client = await cluster.start_scheduler("s2")
    seen = (await tenants(client))["acme"]
    assert (seen.quota, seen.has_own_quota, seen.devices) == (quota, True, 1)

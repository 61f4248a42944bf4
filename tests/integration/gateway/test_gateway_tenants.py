"""Whose a request is: of the key's tenant, or where there are no keys, of the one that the header names."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from kindling.platform.errors import InvalidArgumentError, PermissionDeniedError, UnauthenticatedError
from kindling.platform.rpc.channel import open_channel, remote_errors
from kindling.platform.rpc.server import RpcServer
from kindling.scheduler.domain.refusals import too_many_waiting
from kindling.v1 import generation_pb2, generation_pb2_grpc, tenant_pb2, tenant_pb2_grpc
from support.gateway_peers import MODEL, Rig, gateway_rig

CHAT = "/v1/chat/completions"
BODY = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
KEYS = "plain, acme:alpha, acme:beta, not a tenant:gamma"


async def ask(rig: Rig, **headers: str) -> str:
    """Ask over HTTP; returns the tenant that the scheduler and the worker were told."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    response = await rig.client.post(CHAT, json=BODY, headers=names)
    assert response.status_code == 200, response.text
    assert rig.worker.requests[-1].tenant == rig.scheduler.tenants[-1]
    return rig.scheduler.tenants[-1]


async def complete(rig: Rig, *metadata: tuple[str, str]) -> str:
    request = generation_pb2.CompleteRequest(model=MODEL, prompt="Hello")
    async with open_channel(rig.gateway.rpc.address) as channel:
        with remote_errors("gateway"):
            stub = generation_pb2_grpc.GenerationServiceStub(channel)
            assert [event async for event in stub.Complete(request, metadata=metadata)]
    return rig.scheduler.tenants[-1]


async def test_without_keys_the_header_names_the_tenant() -> None:
    async with gateway_rig() as rig:
        assert await ask(rig) == ""
        assert await ask(rig, x_kindling_tenant="acme-2") == "acme-2"
        assert await complete(rig) == ""
        assert await complete(rig, ("x-kindling-tenant", "acme-2")) == "acme-2"


async def test_every_prompt_and_choice_is_the_tenants() -> None:
    async with gateway_rig() as rig:
        body = {"model": MODEL, "prompt": ["a", "b"], "n": 2}
        await rig.client.post("/v1/completions", json=body, headers={"x-kindling-tenant": "acme"})
        assert rig.scheduler.tenants == ["acme"] * 4


async def test_a_key_belongs_to_its_tenant_whatever_the_header_says() -> None:
    async with gateway_rig(api_keys=KEYS) as rig:
        for key, tenant in (
            ("plain", ""),
            ("acme:alpha", "acme"),
            ("acme:beta", "acme"),
            ("not a tenant:gamma", ""),
        ):
            assert await ask(rig, authorization=f"Bearer {key}", x_kindling_tenant="other") == tenant
        bearer = ("authorization", "Bearer acme:alpha")
        assert await complete(rig, bearer, ("x-kindling-tenant", "other")) == "acme"
        for key in ("acme", "alpha", "other:alpha", "gamma", ":alpha"):
            response = await rig.client.post(CHAT, json=BODY, headers={"authorization": f"Bearer {key}"})
            assert response.status_code == 401


@pytest.mark.parametrize("name", ["", "a b", "-a", "a" * 65, "a/b", "é"])
async def test_a_name_that_is_none_is_refused(name: str) -> None:
    async with gateway_rig() as rig:
        response = await rig.client.post(CHAT, json=BODY, headers={"x-kindling-tenant": name.encode()})
        assert response.status_code == 400
        error = response.json()["error"]
        assert (error["code"], error["param"]) == ("tenant_invalid", "x-kindling-tenant")
        assert rig.scheduler.tenants == []


async def test_a_name_that_is_none_is_refused_over_grpc() -> None:
    async with gateway_rig() as rig:
        with pytest.raises(InvalidArgumentError) as caught:
            await complete(rig, ("x-kindling-tenant", "a b"))
        assert caught.value.reason == "TENANT_INVALID"


async def test_a_generation_that_moves_stays_its_tenants() -> None:
    async with gateway_rig(workers=2) as rig:
        rig.migrate(0, 3, 1)
        assert await ask(rig, x_kindling_tenant="acme") == "acme"
        assert [worker.requests[-1].tenant for worker in rig.workers] == ["acme", "acme"]


# Quotas


class Tenants(tenant_pb2_grpc.TenantServiceServicer):
    """A scheduler's, that notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[object] = []

    async def SetTenant(self, request: tenant_pb2.SetTenantRequest, _context: object) -> tenant_pb2.SetTenantResponse:
        self.asked.append(request)
        return tenant_pb2.SetTenantResponse(quota=tenant_pb2.TenantQuota(waiting=7))

    async def ListTenants(
        self, request: tenant_pb2.ListTenantsRequest, _context: object
    ) -> tenant_pb2.ListTenantsResponse:
        self.asked.append(request)
        return tenant_pb2.ListTenantsResponse(tenants=[tenant_pb2.TenantStatus(tenant="acme")])

    async def RemoveTenant(
        self, request: tenant_pb2.RemoveTenantRequest, _context: object
    ) -> tenant_pb2.RemoveTenantResponse:
        self.asked.append(request)
        return tenant_pb2.RemoveTenantResponse(removed=True)


REQUESTS = (
    tenant_pb2.SetTenantRequest(tenant="acme", waiting=7),
    tenant_pb2.ListTenantsRequest(),
    tenant_pb2.RemoveTenantRequest(tenant="acme"),
)


@asynccontextmanager
async def quotas_at(**settings: str) -> AsyncIterator[tuple[Tenants, Callable[..., Awaitable[list[object]]]]]:
    """A gateway before a scheduler; the call asks everything, with so much metadata."""
    tenants, server = Tenants(), RpcServer("127.0.0.1:0", grace_seconds=0)
    server.add(tenant_pb2_grpc.add_TenantServiceServicer_to_server, tenants, "kindling.v1.TenantService")
    async with (
        server,
        gateway_rig(schedulers=server.address, **settings) as rig,
        open_channel(rig.gateway.rpc.address) as channel,
    ):
        stub = tenant_pb2_grpc.TenantServiceStub(channel)

        async def ask(*metadata: tuple[str, str]) -> list[object]:
            with remote_errors("gateway"):
                calls = (stub.SetTenant, stub.ListTenants, stub.RemoveTenant)
                return [
                    await call(request, metadata=metadata)  # type: ignore[operator]
                    for call, request in zip(calls, REQUESTS, strict=True)
                ]

        yield tenants, ask


async def test_quotas_are_passed_on_to_the_scheduler() -> None:
    async with quotas_at() as (tenants, ask):
        told = await ask()
    assert tenants.asked == list(REQUESTS)
    assert told == [
        tenant_pb2.SetTenantResponse(quota=tenant_pb2.TenantQuota(waiting=7)),
        tenant_pb2.ListTenantsResponse(tenants=[tenant_pb2.TenantStatus(tenant="acme")]),
        tenant_pb2.RemoveTenantResponse(removed=True),
    ]


async def test_no_tenant_raises_its_own_quotas() -> None:
    async with quotas_at(api_keys=KEYS) as (tenants, ask):
        with pytest.raises(PermissionDeniedError) as refused:
            await ask(("authorization", "Bearer acme:alpha"))
        with pytest.raises(UnauthenticatedError):
            await ask()
        assert refused.value.reason == "OPERATOR_KEY_REQUIRED"
        assert tenants.asked == []
        assert len(await ask(("authorization", "Bearer plain"))) == 3


async def test_who_has_more_waiting_than_its_quota_gets_a_429() -> None:
    async with gateway_rig() as rig:
        rig.scheduler.refuse = lambda: too_many_waiting("acme", 5)
        response = await rig.client.post(CHAT, json=BODY, headers={"x-kindling-tenant": "acme"})
    error = response.json()["error"]
    assert (response.status_code, response.headers["retry-after"]) == (429, "5")
    assert (error["type"], error["code"]) == ("rate_limit_error", "tenant_quota_exceeded")
    assert "kindling tenant set" in error["message"]

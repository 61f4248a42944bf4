"""TenantService: the wire's face of quotas."""

from typing import Any

import grpc

from kindling.scheduler.manage_tenants import QuotaChange, TenantStatus, remove_tenant, set_tenant, tenant_statuses
from kindling.scheduler.seat import Seat
from kindling.scheduler.wire import quota_to_wire
from kindling.v1 import tenant_pb2, tenant_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class TenantServicer(tenant_pb2_grpc.TenantServiceServicer):
    """Answers for tenants while this scheduler leads."""

    def __init__(self, seat: Seat) -> None:
        self._seat = seat

    async def SetTenant(self, request: tenant_pb2.SetTenantRequest, _context: Context) -> tenant_pb2.SetTenantResponse:
        """Set some of a tenant's quotas."""
        change = QuotaChange(
            generations=request.generations if request.HasField("generations") else None,
            waiting=request.waiting if request.HasField("waiting") else None,
            devices=request.devices if request.HasField("devices") else None,
            weight=request.weight if request.HasField("weight") else None,
        )
        quota = await set_tenant(await self._seat.term(), request.tenant, change)
        return tenant_pb2.SetTenantResponse(quota=quota_to_wire(quota))

    async def ListTenants(
        self, _request: tenant_pb2.ListTenantsRequest, _context: Context
    ) -> tenant_pb2.ListTenantsResponse:
        """Return the tenants."""
        statuses = tenant_statuses(await self._seat.term())
        return tenant_pb2.ListTenantsResponse(tenants=[_status(one) for one in statuses])

    async def RemoveTenant(
        self, request: tenant_pb2.RemoveTenantRequest, _context: Context
    ) -> tenant_pb2.RemoveTenantResponse:
        """Forget a tenant's own quotas."""
        removed = await remove_tenant(await self._seat.term(), request.tenant)
        return tenant_pb2.RemoveTenantResponse(removed=removed)


def _status(status: TenantStatus) -> tenant_pb2.TenantStatus:
    return tenant_pb2.TenantStatus(
        tenant=status.tenant,
        quota=quota_to_wire(status.quota),
        has_own_quota=status.has_own_quota,
        generations=status.generations,
        waiting=status.waiting,
        devices=status.devices,
    )

"""The public gRPC API as the command line calls it."""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc

from kindling.platform.errors import UnavailableError
from kindling.platform.rpc.channel import open_channel, remote_errors
from kindling.v1 import (
    checkpoint_pb2,
    cluster_pb2,
    cluster_pb2_grpc,
    generation_pb2,
    generation_pb2_grpc,
    model_pb2,
    model_pb2_grpc,
    tenant_pb2,
    tenant_pb2_grpc,
)

DEFAULT_ADDRESS = "127.0.0.1:8081"
API_KEY_VARIABLE = "KINDLING_API_KEY"
CONNECT_SECONDS = 5.0
CALL_SECONDS = 30.0
# Deleting and evicting wait until generations are done and files are gone.
MUTATION_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class ClusterClient:
    """Calls of a reachable cluster; each raises the :class:`KindlingError` that the cluster answers with."""

    address: str
    channel: grpc.aio.Channel

    async def status(self, *, include_estimates: bool = False) -> cluster_pb2.GetClusterStatusResponse:
        """Return the cluster as its leader sees it, and what that has learned if it is asked for."""
        request = cluster_pb2.GetClusterStatusRequest(include_estimates=include_estimates)
        with remote_errors(self._peer):
            return await self._cluster.GetClusterStatus(request, timeout=CALL_SECONDS)

    async def migrate(
        self, request: cluster_pb2.MigrateModelRequest
    ) -> AsyncIterator[list[cluster_pb2.MigrationStatus]]:
        """Yield how far every migration is, up to when all are done."""
        with remote_errors(self._peer):
            async for response in self._cluster.MigrateModel(request):
                yield list(response.migrations)

    async def drain(self, node_id: str) -> AsyncIterator[cluster_pb2.DrainNodeResponse]:
        """Yield what is left on a node, until nothing is."""
        with remote_errors(self._peer):
            async for response in self._cluster.DrainNode(cluster_pb2.DrainNodeRequest(node_id=node_id)):
                yield response

    async def undrain(self, node_id: str) -> None:
        """Let a node serve again."""
        with remote_errors(self._peer):
            await self._cluster.UndrainNode(cluster_pb2.UndrainNodeRequest(node_id=node_id), timeout=CALL_SECONDS)

    async def trace(self, request_id: str) -> cluster_pb2.GetTraceResponse:
        """Return what the cluster's processes keep of a request."""
        with remote_errors(self._peer):
            return await self._cluster.GetTrace(
                cluster_pb2.GetTraceRequest(request_id=request_id), timeout=CALL_SECONDS
            )

    async def models(self) -> list[model_pb2.Model]:
        """Return the models, by name."""
        with remote_errors(self._peer):
            response = await self._models.ListModels(model_pb2.ListModelsRequest(), timeout=CALL_SECONDS)
        return list(response.models)

    async def deploy(self, request: model_pb2.DeployModelRequest) -> AsyncIterator[model_pb2.DeployModelResponse]:
        """Yield the events of a deployment; the last one has ``deployed``."""
        with remote_errors(self._peer):
            async for response in self._models.DeployModel(request):
                yield response

    async def delete(self, name: str) -> None:
        """Delete a model once its generations are done."""
        request = model_pb2.DeleteModelRequest(request_id=new_request_id(), name=name)
        with remote_errors(self._peer):
            await self._models.DeleteModel(request, timeout=MUTATION_SECONDS)

    async def evict(self, name: str, keep: "checkpoint_pb2.Tier.ValueType") -> model_pb2.EvictModelResponse:
        """Stop the model's idle instances and drop its chunks from every tier above ``keep``."""
        request = model_pb2.EvictModelRequest(request_id=new_request_id(), name=name, keep=keep)
        with remote_errors(self._peer):
            return await self._models.EvictModel(request, timeout=MUTATION_SECONDS)

    async def verify(self, request: model_pb2.VerifyModelRequest) -> AsyncIterator[model_pb2.VerifyModelResponse]:
        """Yield the events of a verification; the last one has ``verified``."""
        with remote_errors(self._peer):
            async for response in self._models.VerifyModel(request):
                yield response

    async def set_tenant(self, request: tenant_pb2.SetTenantRequest) -> tenant_pb2.TenantQuota:
        """Set some of a tenant's quotas; returns all of them."""
        with remote_errors(self._peer):
            return (await self._tenants.SetTenant(request, timeout=CALL_SECONDS)).quota

    async def tenants(self) -> list[tenant_pb2.TenantStatus]:
        """Return the tenants that have quotas or anything else, by name."""
        with remote_errors(self._peer):
            return list(
                (await self._tenants.ListTenants(tenant_pb2.ListTenantsRequest(), timeout=CALL_SECONDS)).tenants
            )

    async def remove_tenant(self, tenant: str) -> bool:
        """Forget a tenant's own quotas; false if it had none."""
        request = tenant_pb2.RemoveTenantRequest(tenant=tenant)
        with remote_errors(self._peer):
            return (await self._tenants.RemoveTenant(request, timeout=CALL_SECONDS)).removed

    async def complete(self, request: generation_pb2.CompleteRequest) -> AsyncIterator[generation_pb2.CompleteResponse]:
        """Yield the events of an answer; the last one has ``finished``."""
        stub = generation_pb2_grpc.GenerationServiceStub(self.channel)
        with remote_errors(self._peer):
            async for response in stub.Complete(request):
                yield response

    @property
    def _models(self) -> "model_pb2_grpc.ModelServiceAsyncStub":
        return model_pb2_grpc.ModelServiceStub(self.channel)

    @property
    def _cluster(self) -> "cluster_pb2_grpc.ClusterServiceAsyncStub":
        return cluster_pb2_grpc.ClusterServiceStub(self.channel)

    @property
    def _tenants(self) -> "tenant_pb2_grpc.TenantServiceAsyncStub":
        return tenant_pb2_grpc.TenantServiceStub(self.channel)

    @property
    def _peer(self) -> str:
        return f"the cluster at {self.address}"


@asynccontextmanager
async def connect(address: str, timeout_seconds: float = CONNECT_SECONDS) -> AsyncIterator[ClusterClient]:
    """Open a client of the gateway at ``address``, which shows the key in KINDLING_API_KEY if there is one.

    Raises UnavailableError CLUSTER_UNREACHABLE if nothing answers there.
    """
    channel = open_channel(address, api_key=os.environ.get(API_KEY_VARIABLE, ""))
    try:
        if not await _reachable(channel, timeout_seconds):
            raise UnavailableError(
                f"no cluster answers at {address}; start one with `kindling up`, or name one with --address",
                reason="CLUSTER_UNREACHABLE",
                metadata={"address": address},
            )
        yield ClusterClient(address, channel)
    finally:
        await channel.close()


async def _reachable(channel: grpc.aio.Channel, timeout_seconds: float) -> bool:
    """Return whether the channel comes up; a refused connection answers at once."""
    try:
        async with asyncio.timeout(timeout_seconds):
            while (state := channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
                if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                    return False
                await channel.wait_for_state_change(state)
    except TimeoutError:
        return False
    return True


def new_request_id() -> str:
    """Return a fresh id for a mutation."""
    return uuid.uuid4().hex

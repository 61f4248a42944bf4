"""The scheduler's services at the gateway's address: passed on to the leader, errors and all."""

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Protocol, TypeVar

import grpc

from kindling.gateway.domain.api_keys import ApiKeys
from kindling.gateway.servicer import Context, require_key, require_operator
from kindling.platform.errors import NotFoundError, UnavailableError
from kindling.platform.rpc.spans import in_order, kept_spans, trace_unknown
from kindling.platform.telemetry import process_spans
from kindling.v1 import cluster_pb2, cluster_pb2_grpc, model_pb2, model_pb2_grpc, tenant_pb2, tenant_pb2_grpc

T = TypeVar("T")
# For callers that gave no deadline of their own.
DEFAULT_SECONDS = 300.0
# For the leader's part of a trace: without it the gateway shows its own.
TRACE_SECONDS = 3.0
_NO_LEADER = "the leading scheduler, which asks storage managers and workers,"


class Leader(Protocol):
    """Calls the scheduler that leads."""

    async def unary(self, call: Callable[[grpc.aio.Channel], Awaitable[T]], *, retry_seconds: float | None = None) -> T:
        """Return the leader's answer; UnavailableError NO_SCHEDULER if none comes for so long."""
        ...

    def stream(
        self, call: Callable[[grpc.aio.Channel], AsyncIterable[T]], is_last: Callable[[T], bool]
    ) -> AsyncGenerator[T, None]:
        """Yield the leader's answers up to the last one."""
        ...


class _Forwarder:
    """Passes calls on, of those who have a key."""

    def __init__(self, leader: Leader, api_keys: ApiKeys) -> None:
        self._leader = leader
        self._api_keys = api_keys

    async def _forward(
        self, context: Context, call: Callable[[grpc.aio.Channel, float], Awaitable[T]], seconds: float | None = None
    ) -> T:
        """Call within the caller's deadline; where ``seconds`` are given, no call and no search takes longer."""
        self._check(context)
        left = _time_left(context) if seconds is None else min(seconds, _time_left(context))
        return await self._leader.unary(lambda channel: call(channel, left), retry_seconds=seconds)

    def _check(self, context: Context) -> None:
        """Let in who has a key."""
        require_key(self._api_keys, context)

    def _follow(
        self,
        context: Context,
        call: Callable[[grpc.aio.Channel, float | None], AsyncIterable[T]],
        is_last: Callable[[T], bool],
    ) -> "aclosing[AsyncGenerator[T, None]]":
        require_key(self._api_keys, context)
        left = context.time_remaining()
        return aclosing(self._leader.stream(lambda channel: call(channel, left), is_last))


class ModelForwarder(_Forwarder, model_pb2_grpc.ModelServiceServicer):
    """Serves ``kindling.v1.ModelService``; ``changed`` is told the names of models that were deployed or deleted."""

    def __init__(self, leader: Leader, api_keys: ApiKeys, changed: Callable[[str], None]) -> None:
        super().__init__(leader, api_keys)
        self._changed = changed

    async def DeployModel(  # noqa: N802
        self, request: model_pb2.DeployModelRequest, context: Context
    ) -> AsyncIterator[model_pb2.DeployModelResponse]:
        """Forward; a deployment goes on under a new leader, since it carries a request id."""
        answers = self._follow(
            context,
            lambda channel, left: _models(channel).DeployModel(request, timeout=left),
            lambda answer: answer.HasField("deployed"),
        )
        async with answers as deployment:
            async for answer in deployment:
                if answer.HasField("deployed"):
                    self._changed(request.name)
                yield answer

    async def GetModel(  # noqa: N802
        self, request: model_pb2.GetModelRequest, context: Context
    ) -> model_pb2.GetModelResponse:
        """Forward."""
        return await self._forward(context, lambda channel, left: _models(channel).GetModel(request, timeout=left))

    async def ListModels(  # noqa: N802
        self, request: model_pb2.ListModelsRequest, context: Context
    ) -> model_pb2.ListModelsResponse:
        """Forward."""
        return await self._forward(context, lambda channel, left: _models(channel).ListModels(request, timeout=left))

    async def DeleteModel(  # noqa: N802
        self, request: model_pb2.DeleteModelRequest, context: Context
    ) -> model_pb2.DeleteModelResponse:
        """Forward."""
        answer: model_pb2.DeleteModelResponse = await self._forward(
            context, lambda channel, left: _models(channel).DeleteModel(request, timeout=left)
        )
        self._changed(request.name)
        return answer

    async def EvictModel(  # noqa: N802
        self, request: model_pb2.EvictModelRequest, context: Context
    ) -> model_pb2.EvictModelResponse:
        """Forward."""
        return await self._forward(context, lambda channel, left: _models(channel).EvictModel(request, timeout=left))

    async def VerifyModel(  # noqa: N802
        self, request: model_pb2.VerifyModelRequest, context: Context
    ) -> AsyncIterator[model_pb2.VerifyModelResponse]:
        """Forward; under a new leader it begins anew."""
        answers = self._follow(
            context,
            lambda channel, left: _models(channel).VerifyModel(request, timeout=left),
            lambda answer: answer.HasField("verified"),
        )
        async with answers as events:
            async for answer in events:
                yield answer

    async def ReadModelFiles(  # noqa: N802
        self, request: model_pb2.ReadModelFilesRequest, context: Context
    ) -> AsyncIterator[model_pb2.ReadModelFilesResponse]:
        """Forward, all files at once, so that no piece is sent twice if the leader changes."""
        require_key(self._api_keys, context)
        left = _time_left(context)
        for part in await self._leader.unary(
            lambda channel: _all(_models(channel).ReadModelFiles(request, timeout=left))
        ):
            yield part


class ClusterForwarder(_Forwarder, cluster_pb2_grpc.ClusterServiceServicer):
    """Serves ``kindling.v1.ClusterService``."""

    async def GetClusterStatus(  # noqa: N802
        self, request: cluster_pb2.GetClusterStatusRequest, context: Context
    ) -> cluster_pb2.GetClusterStatusResponse:
        """Forward."""
        return await self._forward(
            context, lambda channel, left: _cluster(channel).GetClusterStatus(request, timeout=left)
        )

    async def MigrateModel(  # noqa: N802
        self, request: cluster_pb2.MigrateModelRequest, context: Context
    ) -> AsyncIterator[cluster_pb2.MigrateModelResponse]:
        """Forward; under a new leader it joins the migrations under way."""
        answers = self._follow(
            context,
            lambda channel, left: _cluster(channel).MigrateModel(request, timeout=left),
            lambda answer: all(one.stage == cluster_pb2.MIGRATION_STAGE_DONE for one in answer.migrations),
        )
        async with answers as events:
            async for answer in events:
                yield answer

    async def DrainNode(  # noqa: N802
        self, request: cluster_pb2.DrainNodeRequest, context: Context
    ) -> AsyncIterator[cluster_pb2.DrainNodeResponse]:
        """Forward; the node stays drained under a new leader, which is asked again for what is left."""
        answers = self._follow(
            context,
            lambda channel, left: _cluster(channel).DrainNode(request, timeout=left),
            lambda answer: not answer.instances,
        )
        async with answers as events:
            async for answer in events:
                yield answer

    async def UndrainNode(  # noqa: N802
        self, request: cluster_pb2.UndrainNodeRequest, context: Context
    ) -> cluster_pb2.UndrainNodeResponse:
        """Forward."""
        return await self._forward(context, lambda channel, left: _cluster(channel).UndrainNode(request, timeout=left))

    async def GetTrace(  # noqa: N802
        self, request: cluster_pb2.GetTraceRequest, context: Context
    ) -> cluster_pb2.GetTraceResponse:
        """Forward by the trace's id, which the gateway knows of its answers, and add what it keeps itself.

        That is all there is to show while no scheduler answers.
        """
        own = kept_spans(process_spans(), request.request_id)
        wanted = cluster_pb2.GetTraceRequest(request_id=own.trace_id or request.request_id)
        try:
            answer: cluster_pb2.GetTraceResponse = await self._forward(
                context, lambda channel, left: _cluster(channel).GetTrace(wanted, timeout=left), TRACE_SECONDS
            )
        except (NotFoundError, UnavailableError) as error:
            if not own.spans:
                raise trace_unknown(request.request_id) if isinstance(error, NotFoundError) else error from None
            silent = [] if isinstance(error, NotFoundError) else [_NO_LEADER]
            answer = cluster_pb2.GetTraceResponse(unreachable=silent)
        spans = in_order([*own.spans, *answer.spans])
        return cluster_pb2.GetTraceResponse(
            trace_id=own.trace_id or answer.trace_id, spans=spans, unreachable=answer.unreachable
        )


class TenantForwarder(_Forwarder, tenant_pb2_grpc.TenantServiceServicer):
    """Serves ``kindling.v1.TenantService`` to those whose key is no tenant's: nobody raises their own quotas."""

    def _check(self, context: Context) -> None:
        require_operator(self._api_keys, context)

    async def SetTenant(  # noqa: N802
        self, request: tenant_pb2.SetTenantRequest, context: Context
    ) -> tenant_pb2.SetTenantResponse:
        """Forward."""
        return await self._forward(context, lambda channel, left: _tenants(channel).SetTenant(request, timeout=left))

    async def ListTenants(  # noqa: N802
        self, request: tenant_pb2.ListTenantsRequest, context: Context
    ) -> tenant_pb2.ListTenantsResponse:
        """Forward."""
        return await self._forward(context, lambda channel, left: _tenants(channel).ListTenants(request, timeout=left))

    async def RemoveTenant(  # noqa: N802
        self, request: tenant_pb2.RemoveTenantRequest, context: Context
    ) -> tenant_pb2.RemoveTenantResponse:
        """Forward."""
        return await self._forward(context, lambda channel, left: _tenants(channel).RemoveTenant(request, timeout=left))


def _models(channel: grpc.aio.Channel) -> Any:
    return model_pb2_grpc.ModelServiceStub(channel)


def _cluster(channel: grpc.aio.Channel) -> Any:
    return cluster_pb2_grpc.ClusterServiceStub(channel)


def _tenants(channel: grpc.aio.Channel) -> Any:
    return tenant_pb2_grpc.TenantServiceStub(channel)


def _time_left(context: Context) -> float:
    remaining: float | None = context.time_remaining()
    return DEFAULT_SECONDS if remaining is None else remaining


async def _all(call: AsyncIterable[T]) -> list[T]:
    return [answer async for answer in call]

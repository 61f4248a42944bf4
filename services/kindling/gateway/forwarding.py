"""The scheduler's services at the gateway's address: passed on to the leader, errors and all."""

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Protocol, TypeVar

import grpc

from kindling.gateway.domain.api_keys import ApiKeys
from kindling.gateway.servicer import Context, require_key
from kindling.v1 import cluster_pb2, cluster_pb2_grpc, model_pb2, model_pb2_grpc

T = TypeVar("T")
# For callers that gave no deadline of their own.
DEFAULT_SECONDS = 300.0


class Leader(Protocol):
    """Calls the scheduler that leads."""

    async def unary(self, call: Callable[[grpc.aio.Channel], Awaitable[T]]) -> T:
        """Return the leader's answer."""
        ...

    def stream(
        self, call: Callable[[grpc.aio.Channel], AsyncIterable[T]], is_last: Callable[[T], bool]
    ) -> AsyncGenerator[T, None]:
        """Yield the leader's answers up to the last one."""
        ...


class ModelForwarder(model_pb2_grpc.ModelServiceServicer):
    """Serves ``kindling.v1.ModelService``; ``changed`` is told the names of models that were deployed or deleted."""

    def __init__(self, leader: Leader, api_keys: ApiKeys, changed: Callable[[str], None]) -> None:
        self._leader = leader
        self._api_keys = api_keys
        self._changed = changed

    async def DeployModel(  # noqa: N802
        self, request: model_pb2.DeployModelRequest, context: Context
    ) -> AsyncIterator[model_pb2.DeployModelResponse]:
        """Forward; a deployment goes on under a new leader, since it carries a request id."""
        require_key(self._api_keys, context)
        remaining = context.time_remaining()
        answers = self._leader.stream(
            lambda channel: _models(channel).DeployModel(request, timeout=remaining),
            lambda answer: answer.HasField("deployed"),
        )
        async with aclosing(answers):
            async for answer in answers:
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
        require_key(self._api_keys, context)
        remaining = context.time_remaining()
        answers = self._leader.stream(
            lambda channel: _models(channel).VerifyModel(request, timeout=remaining),
            lambda answer: answer.HasField("verified"),
        )
        async with aclosing(answers):
            async for answer in answers:
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

    async def _forward(self, context: Context, call: Callable[[grpc.aio.Channel, float], Awaitable[T]]) -> T:
        require_key(self._api_keys, context)
        left = _time_left(context)
        return await self._leader.unary(lambda channel: call(channel, left))


class ClusterForwarder(cluster_pb2_grpc.ClusterServiceServicer):
    """Serves ``kindling.v1.ClusterService``."""

    def __init__(self, leader: Leader, api_keys: ApiKeys) -> None:
        self._leader = leader
        self._api_keys = api_keys

    async def GetClusterStatus(  # noqa: N802
        self, request: cluster_pb2.GetClusterStatusRequest, context: Context
    ) -> cluster_pb2.GetClusterStatusResponse:
        """Forward."""
        require_key(self._api_keys, context)
        left = _time_left(context)
        answer: cluster_pb2.GetClusterStatusResponse = await self._leader.unary(
            lambda channel: _cluster(channel).GetClusterStatus(request, timeout=left)
        )
        return answer

    async def MigrateModel(  # noqa: N802
        self, request: cluster_pb2.MigrateModelRequest, context: Context
    ) -> AsyncIterator[cluster_pb2.MigrateModelResponse]:
        """Forward; under a new leader it joins the migrations under way."""
        require_key(self._api_keys, context)
        remaining = context.time_remaining()
        answers = self._leader.stream(
            lambda channel: _cluster(channel).MigrateModel(request, timeout=remaining),
            lambda answer: all(one.stage == cluster_pb2.MIGRATION_STAGE_DONE for one in answer.migrations),
        )
        async with aclosing(answers):
            async for answer in answers:
                yield answer

    async def DrainNode(  # noqa: N802
        self, request: cluster_pb2.DrainNodeRequest, context: Context
    ) -> AsyncIterator[cluster_pb2.DrainNodeResponse]:
        """Forward; the node stays drained under a new leader, which is asked again for what is left."""
        require_key(self._api_keys, context)
        remaining = context.time_remaining()
        answers = self._leader.stream(
            lambda channel: _cluster(channel).DrainNode(request, timeout=remaining),
            lambda answer: not answer.instances,
        )
        async with aclosing(answers):
            async for answer in answers:
                yield answer

    async def UndrainNode(  # noqa: N802
        self, request: cluster_pb2.UndrainNodeRequest, context: Context
    ) -> cluster_pb2.UndrainNodeResponse:
        """Forward."""
        require_key(self._api_keys, context)
        left = _time_left(context)
        answer: cluster_pb2.UndrainNodeResponse = await self._leader.unary(
            lambda channel: _cluster(channel).UndrainNode(request, timeout=left)
        )
        return answer


def _models(channel: grpc.aio.Channel) -> Any:
    return model_pb2_grpc.ModelServiceStub(channel)


def _cluster(channel: grpc.aio.Channel) -> Any:
    return cluster_pb2_grpc.ClusterServiceStub(channel)


def _time_left(context: Context) -> float:
    remaining: float | None = context.time_remaining()
    return DEFAULT_SECONDS if remaining is None else remaining


async def _all(call: AsyncIterable[T]) -> list[T]:
    return [answer async for answer in call]

"""Models and their small files, from the leader over gRPC."""

import asyncio
from collections.abc import Awaitable, Sequence

import grpc

from kindling.gateway.adapters.leader_client import LeaderClient
from kindling.gateway.adapters.wire import model_of
from kindling.gateway.background import Background
from kindling.gateway.domain.model_info import ModelInfo, is_model_name
from kindling.platform.errors import NotFoundError
from kindling.v1 import model_pb2, model_pb2_grpc

CALL_SECONDS = 10.0


class GrpcModels:
    """Implements :class:`kindling.gateway.ports.Models`.

    Nothing is cached, so that a model deployed anew is served anew; but requests that come while the answer for their
    model is awaited share it.
    """

    def __init__(self, leader: LeaderClient, background: Background) -> None:
        self._leader = leader
        self._background = background
        self._asked: dict[str, asyncio.Task[ModelInfo]] = {}

    async def get(self, name: str) -> ModelInfo:
        """Return the model; see the port."""
        if not is_model_name(name):
            raise _not_found(name)
        task = self._asked.get(name)
        if task is None:
            task = self._asked[name] = self._background.start(self._ask(name))
            task.add_done_callback(lambda _: self._asked.pop(name))
        return await asyncio.shield(task)

    async def list_all(self) -> Sequence[ModelInfo]:
        """Return every model; see the port."""

        def call(channel: grpc.aio.Channel) -> Awaitable[model_pb2.ListModelsResponse]:
            stub = model_pb2_grpc.ModelServiceStub(channel)
            return stub.ListModels(model_pb2.ListModelsRequest(), timeout=CALL_SECONDS)

        answer = await self._leader.unary(call)
        return [model_of(model) for model in answer.models]

    async def _ask(self, name: str) -> ModelInfo:
        def call(channel: grpc.aio.Channel) -> Awaitable[model_pb2.GetModelResponse]:
            stub = model_pb2_grpc.ModelServiceStub(channel)
            return stub.GetModel(model_pb2.GetModelRequest(name=name), timeout=CALL_SECONDS)

        try:
            return model_of((await self._leader.unary(call)).model)
        except NotFoundError as error:
            raise _not_found(name) from error


def _not_found(name: str) -> NotFoundError:
    return NotFoundError(
        f"The model {name[:128]!r} does not exist; GET /v1/models lists those that do.",
        reason="MODEL_NOT_FOUND",
        field="model",
    )

"""Models and their small files, from the leader over gRPC."""

import asyncio
from collections.abc import Awaitable, Sequence

import grpc

from kindling.gateway.adapters.leader_client import LeaderClient
from kindling.gateway.adapters.wire import model_of
from kindling.gateway.background import Background
from kindling.gateway.domain.model_info import ModelInfo, is_model_name
from kindling.platform.clock import Clock
from kindling.platform.errors import NotFoundError
from kindling.v1 import model_pb2, model_pb2_grpc

CALL_SECONDS = 10.0
FRESH_SECONDS = 1.0


class GrpcModels:
    """Implements :class:`kindling.gateway.ports.Models`.

    Answers are good for ``FRESH_SECONDS``, which is how late a gateway may learn what was deployed through another one;
    what was deployed through this one, it is told by ``forget``. Requests that come while the answer for their model
    is awaited share it.
    """

    def __init__(self, leader: LeaderClient, background: Background, clock: Clock) -> None:
        self._leader = leader
        self._background = background
        self._clock = clock
        self._asked: dict[str, tuple[float, asyncio.Task[ModelInfo]]] = {}

    async def get(self, name: str) -> ModelInfo:
        """Return the model; see the port."""
        if not is_model_name(name):
            raise _not_found(name)
        asked_at, task = self._asked.get(name, (0.0, None))
        if task is None or self._clock.now() - asked_at > FRESH_SECONDS or _failed(task):
            task = self._background.start(self._ask(name))
            self._asked[name] = (self._clock.now(), task)
        try:
            return task.result() if task.done() else await asyncio.shield(task)
        finally:
            if _failed(task):
                self._drop(name, task)

    def forget(self, name: str) -> None:
        """Ask for the model again when it is needed next: it may have changed."""
        self._asked.pop(name, None)

    async def list_all(self) -> Sequence[ModelInfo]:
        """Return every model; see the port."""

        def call(channel: grpc.aio.Channel) -> Awaitable[model_pb2.ListModelsResponse]:
            stub = model_pb2_grpc.ModelServiceStub(channel)
            return stub.ListModels(model_pb2.ListModelsRequest(), timeout=CALL_SECONDS)

        answer = await self._leader.unary(call)
        return [model_of(model) for model in answer.models]

    def _drop(self, name: str, task: asyncio.Task[ModelInfo]) -> None:
        # Names that nobody knows must not pile up; a newer answer stays.
        if name in self._asked and self._asked[name][1] is task:
            del self._asked[name]

    async def _ask(self, name: str) -> ModelInfo:
        def call(channel: grpc.aio.Channel) -> Awaitable[model_pb2.GetModelResponse]:
            stub = model_pb2_grpc.ModelServiceStub(channel)
            return stub.GetModel(model_pb2.GetModelRequest(name=name), timeout=CALL_SECONDS)

        try:
            return model_of((await self._leader.unary(call)).model)
        except NotFoundError as error:
            raise _not_found(name) from error


def _failed(task: asyncio.Task[ModelInfo]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def _not_found(name: str) -> NotFoundError:
    return NotFoundError(
        f"The model {name[:128]!r} does not exist; GET /v1/models lists those that do.",
        reason="MODEL_NOT_FOUND",
        metadata={"model": name[:128]},
        field="model",
    )

"""ModelService: the wire's face of deploying, listing, deleting and evicting models."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc

from kindling.scheduler.deploy_model import Deployment, deploy_model
from kindling.scheduler.domain.values import Model, ModelSettings
from kindling.scheduler.manage_models import delete_model, evict_model, find_model, read_model_files
from kindling.scheduler.seat import Seat
from kindling.scheduler.storage_ports import ImportOrder
from kindling.scheduler.verify_model import verify_model
from kindling.scheduler.verify_wire import event_to_wire
from kindling.scheduler.wire import model_to_wire, settings_from_wire, tier_from_wire
from kindling.v1 import model_pb2, model_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class ModelServicer(model_pb2_grpc.ModelServiceServicer):
    """Answers for models while this scheduler leads."""

    def __init__(self, seat: Seat, defaults: ModelSettings) -> None:
        self._seat = seat
        self._defaults = defaults

    async def DeployModel(
        self, request: model_pb2.DeployModelRequest, _context: Context
    ) -> AsyncIterator[model_pb2.DeployModelResponse]:
        """Stream how packing goes and then the model."""
        term = await self._seat.term()
        async with aclosing(deploy_model(term, self._deployment(request))) as events:
            async for event in events:
                if isinstance(event, Model):
                    yield model_pb2.DeployModelResponse(deployed=model_to_wire(event))
                else:
                    progress = model_pb2.ImportProgress(done_bytes=event.done_bytes, total_bytes=event.total_bytes)
                    yield model_pb2.DeployModelResponse(progress=progress)

    async def GetModel(self, request: model_pb2.GetModelRequest, _context: Context) -> model_pb2.GetModelResponse:
        """Return one model."""
        term = await self._seat.term()
        return model_pb2.GetModelResponse(model=model_to_wire(find_model(term, request.name)))

    async def ListModels(
        self, _request: model_pb2.ListModelsRequest, _context: Context
    ) -> model_pb2.ListModelsResponse:
        """Return every model, by name."""
        models = (await self._seat.term()).view.models
        return model_pb2.ListModelsResponse(models=[model_to_wire(models[name]) for name in sorted(models)])

    async def DeleteModel(
        self, request: model_pb2.DeleteModelRequest, _context: Context
    ) -> model_pb2.DeleteModelResponse:
        """Forget a model."""
        term = await self._seat.term()
        await delete_model(term, request.name, request.request_id)
        return model_pb2.DeleteModelResponse()

    async def EvictModel(self, request: model_pb2.EvictModelRequest, _context: Context) -> model_pb2.EvictModelResponse:
        """Stop a model's idle instances and drop its chunks."""
        term = await self._seat.term()
        eviction = await evict_model(term, request.name, tier_from_wire(request.keep))
        return model_pb2.EvictModelResponse(
            stopped_instances=eviction.stopped_instances, dropped_bytes=eviction.dropped_bytes
        )

    async def VerifyModel(
        self, request: model_pb2.VerifyModelRequest, _context: Context
    ) -> AsyncIterator[model_pb2.VerifyModelResponse]:
        """Stream what checking shows, node by node."""
        term = await self._seat.term()
        async with aclosing(verify_model(term, request.name, repair=request.repair)) as events:
            async for event in events:
                yield event_to_wire(event)

    async def ReadModelFiles(
        self, request: model_pb2.ReadModelFilesRequest, _context: Context
    ) -> AsyncIterator[model_pb2.ReadModelFilesResponse]:
        """Stream a model's small files."""
        term = await self._seat.term()
        model = find_model(term, request.name)
        async with aclosing(read_model_files(term, model)) as parts:
            async for part in parts:
                yield model_pb2.ReadModelFilesResponse(
                    checkpoint_digest=model.checkpoint.digest,
                    part=model_pb2.FilePart(
                        path=part.path, file_bytes=part.file_bytes, offset=part.offset, data=part.data
                    ),
                )

    def _deployment(self, request: model_pb2.DeployModelRequest) -> Deployment:
        return Deployment(
            name=request.name,
            order=ImportOrder(request.request_id, request.source_uri, request.allow_pickle),
            settings=settings_from_wire(request.settings, self._defaults),
        )

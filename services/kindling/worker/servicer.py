"""The worker's gRPC face."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
from opentelemetry import trace

from kindling.platform.errors import InvalidArgumentError, KindlingError, UnimplementedError
from kindling.platform.known_leader import KnownLeader
from kindling.v1 import inference_pb2, inference_pb2_grpc
from kindling.worker import convert, convert_migration
from kindling.worker.domain.generation import Alive, Finished, Migrated, Token
from kindling.worker.instances import Instances
from kindling.worker.migrations import Migrations
from kindling.worker.receive import Message
from kindling.worker.stream import Event

tracer = trace.get_tracer(__name__)
Context = grpc.aio.ServicerContext[Any, Any]


class InferenceServicer(inference_pb2_grpc.InferenceServiceServicer):
    """Serves what a worker's instances can do; see the proto for what is guaranteed."""

    def __init__(self, worker_id: str, instances: Instances, migrations: Migrations) -> None:
        self._worker_id = worker_id
        self._instances = instances
        self._migrations = migrations
        self._leader = KnownLeader()

    async def StartInstance(
        self, request: inference_pb2.StartInstanceRequest, _context: Context
    ) -> AsyncIterator[inference_pb2.StartInstanceResponse]:
        """Start an instance or join its start."""
        self._leader.heed(request.leader_revision)
        _require("instance_id", request.instance_id)
        _require("checkpoint_digest", request.checkpoint_digest)
        if request.other_addresses:
            raise _several_devices(request)
        async for event in self._instances.start(convert.spec_from_wire(request)):
            yield convert.start_event_to_wire(event)

    async def StopInstance(
        self, request: inference_pb2.StopInstanceRequest, _context: Context
    ) -> inference_pb2.StopInstanceResponse:
        """Stop an instance."""
        self._leader.heed(request.leader_revision)
        grace_seconds = request.grace.ToTimedelta().total_seconds() if request.HasField("grace") else None
        await self._instances.stop(request.instance_id, grace_seconds)
        return inference_pb2.StopInstanceResponse()

    async def WatchWorker(
        self, request: inference_pb2.WatchWorkerRequest, _context: Context
    ) -> AsyncIterator[inference_pb2.WatchWorkerResponse]:
        """Stream what the worker runs."""
        self._leader.heed(request.leader_revision)
        async for view in self._instances.watch():
            yield convert.worker_to_wire(self._worker_id, view)

    async def Generate(
        self, request: inference_pb2.GenerateRequest, _context: Context
    ) -> AsyncIterator[inference_pb2.GenerateResponse]:
        """Run a generation."""
        _require("generation_id", request.generation_id)
        batches = self._instances.generate(request.instance_id, convert.generation_from_wire(request))
        span = _GenerationSpan(request)
        try:
            async with aclosing(batches):
                async for events in batches:
                    span.note(events)
                    for response in _responses(events):
                        yield response
        except KindlingError as error:
            span.fail(error)
            raise
        finally:
            span.end()

    async def MigrateInstance(
        self, request: inference_pb2.MigrateInstanceRequest, _context: Context
    ) -> AsyncIterator[inference_pb2.MigrateInstanceResponse]:
        """Move an instance's generations to another worker."""
        self._leader.heed(request.leader_revision)
        _require("target_address", request.target_address)
        _require("target_instance_id", request.target_instance_id)
        outcomes = self._migrations.migrate(request.instance_id, request.target_address, request.target_instance_id)
        async with aclosing(outcomes):
            async for outcome in outcomes:
                yield convert_migration.outcome_to_wire(outcome)

    async def ReceiveGeneration(
        self, requests: AsyncIterator[inference_pb2.ReceiveGenerationRequest], _context: Context
    ) -> AsyncIterator[inference_pb2.ReceiveGenerationResponse]:
        """Receive a generation from the worker that runs it."""
        messages = aiter(requests)
        first = await anext(messages, inference_pb2.ReceiveGenerationRequest())
        _require("begin.generation_id", first.begin.generation_id)
        generation = convert.generation_from_wire(first.begin)
        answers = self._instances.receive(first.begin.instance_id, generation, _later(messages))
        async with aclosing(answers):
            async for answer in answers:
                yield convert_migration.answer_to_wire(answer)


async def _later(messages: AsyncIterator[inference_pb2.ReceiveGenerationRequest]) -> AsyncIterator[Message]:
    async for message in messages:
        yield convert_migration.message_from_wire(message)


class _GenerationSpan:
    """One span for a whole generation; never made current, since a generator may be ended from another context."""

    __slots__ = ("_output_tokens", "_span")

    def __init__(self, request: inference_pb2.GenerateRequest) -> None:
        self._output_tokens = 0
        attributes: dict[str, str | int] = {
            "kindling.generation.id": request.generation_id,
            "kindling.instance.id": request.instance_id,
            "gen_ai.usage.input_tokens": len(request.prompt_token_ids),
            "kindling.generation.emitted_elsewhere": len(request.emitted_token_ids),
        }
        self._span = tracer.start_span("worker.generate", attributes=attributes)

    def note(self, events: list[Event]) -> None:
        tokens = sum(isinstance(event, Token) for event in events)
        if tokens and not self._output_tokens:
            self._span.add_event("first_token")
        self._output_tokens += tokens
        last = events[-1]
        if isinstance(last, Finished):
            self._span.set_attribute("gen_ai.response.finish_reasons", [last.reason.value])
        elif isinstance(last, Migrated):
            self._span.set_attribute("kindling.migration.target", last.worker_address)

    def fail(self, error: KindlingError) -> None:
        self._span.set_status(trace.Status(trace.StatusCode.ERROR, error.message))
        self._span.set_attribute("error.type", error.reason)

    def end(self) -> None:
        self._span.set_attribute("gen_ai.usage.output_tokens", self._output_tokens)
        self._span.end()


def _responses(events: list[Event]) -> list[inference_pb2.GenerateResponse]:
    """Return all tokens as one message, and the terminal event if it is there; if there is neither, a sign of life."""
    tokens = [event for event in events if isinstance(event, Token)]
    responses = [convert.tokens_to_wire(tokens)] if tokens else []
    last = events[-1]
    if isinstance(last, Finished):
        responses.append(convert.finished_to_wire(last))
    elif isinstance(last, Migrated):
        responses.append(convert_migration.migrated_to_wire(last))
    elif isinstance(last, Alive) and not tokens:
        responses.append(inference_pb2.GenerateResponse(alive=inference_pb2.GenerationAlive()))
    return responses


def _several_devices(request: inference_pb2.StartInstanceRequest) -> UnimplementedError:
    devices = 1 + len(request.other_addresses)
    return UnimplementedError(
        f"model {request.model!r} is deployed with --devices {devices}, and this worker's engine runs a model on one "
        "device alone (no tensor parallelism yet): deploy it again with --devices 1 and workers whose devices hold it "
        "whole, or deploy a smaller or quantized model",
        reason="TENSOR_PARALLEL_NOT_SUPPORTED",
        metadata={"model": request.model, "devices": str(devices)},
    )


def _require(field: str, value: str) -> None:
    if not value:
        raise InvalidArgumentError(f"{field} is empty; it must be given.", reason="FIELD_MISSING", field=field)

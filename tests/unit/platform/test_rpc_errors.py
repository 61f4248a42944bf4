"""A KindlingError raised in a servicer arrives at the client as the same KindlingError, over a real socket."""

from collections.abc import AsyncIterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from kindling.platform.errors import (
    ERROR_BY_CODE,
    Code,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    KindlingError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
)
from kindling.platform.rpc.channel import ChannelPool, open_channel, remote_errors
from kindling.platform.rpc.server import RpcServer
from kindling.v1 import storage_pb2, storage_pb2_grpc

SERVICE = "kindling.v1.StorageService"


class FailingServicer(storage_pb2_grpc.StorageServiceServicer):
    """Raises what it is told to, in a unary method at once and in a streaming one after an event."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def EvictCheckpoint(self, request, context):
        raise self.error

    async def OpenCheckpoint(self, request, context):
        yield storage_pb2.OpenCheckpointResponse()
        raise ExceptionGroup("tasks", [self.error])


async def serve(error: Exception) -> AsyncIterator[storage_pb2_grpc.StorageServiceStub]:
    server = RpcServer("127.0.0.1:0", grace_seconds=0)
    server.add(storage_pb2_grpc.add_StorageServiceServicer_to_server, FailingServicer(error), SERVICE)
    async with server, ChannelPool() as pool:
        yield storage_pb2_grpc.StorageServiceStub(pool.get(server.address))


async def call_unary(stub: storage_pb2_grpc.StorageServiceStub) -> None:
    with remote_errors("storage"):
        await stub.EvictCheckpoint(storage_pb2.EvictCheckpointRequest())


async def call_streaming(stub: storage_pb2_grpc.StorageServiceStub) -> int:
    events = 0
    with remote_errors("storage"):
        async for _ in stub.OpenCheckpoint(storage_pb2.OpenCheckpointRequest()):
            events += 1
    return events


async def failure_of(error: Exception, call) -> KindlingError:
    async for stub in serve(error):
        with pytest.raises(KindlingError) as caught:
            await call(stub)
        return caught.value
    raise AssertionError


@pytest.mark.parametrize("call", [call_unary, call_streaming])
@pytest.mark.parametrize("code", list(Code))
async def test_every_code_survives_the_wire(code: Code, call) -> None:
    sent = ERROR_BY_CODE[code]("do this instead", reason="SOME_REASON", metadata={"size_bytes": "7"})
    got = await failure_of(sent, call)
    assert type(got) is type(sent)
    assert (got.message, got.reason, got.metadata) == ("do this instead", "SOME_REASON", {"size_bytes": "7"})
    assert got.retry_after_seconds is None
    assert got.field is None


async def test_retry_and_field_survive_the_wire() -> None:
    sent = ResourceExhaustedError("full", reason="QUEUE_FULL", retry_after_seconds=1.5, field="model")
    got = await failure_of(sent, call_streaming)
    assert (got.retry_after_seconds, got.field) == (1.5, "model")


@pytest.mark.parametrize("long", ["x" * 10_000, "長" * 10_000])
async def test_an_error_about_something_long_still_says_what_it_is(long: str) -> None:
    sent = InvalidArgumentError(f"bad: {long}", reason="TOO_LONG", metadata={"name": long}, field="name")
    got = await failure_of(sent, call_unary)
    assert isinstance(got, InvalidArgumentError)
    assert (got.reason, got.field) == ("TOO_LONG", "name")
    assert got.message.startswith("bad: ")
    assert got.message.endswith("…")


async def test_a_bug_is_an_internal_error_that_gives_nothing_away() -> None:
    got = await failure_of(ZeroDivisionError("secret"), call_unary)
    assert isinstance(got, InternalError)
    assert "secret" not in got.message


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    server = RpcServer("127.0.0.1:0")
    async with server:
        address = server.address
    async with open_channel(address, retry=False) as channel:
        with pytest.raises(UnavailableError) as caught:
            await call_unary(storage_pb2_grpc.StorageServiceStub(channel))
    assert caught.value.reason == "RPC_UNAVAILABLE"
    assert caught.value.metadata == {"peer": "storage"}


async def test_a_busy_port_is_a_clear_error() -> None:
    async with RpcServer("127.0.0.1:0") as first:
        with pytest.raises(FailedPreconditionError, match="choose another address") as caught:
            async with RpcServer(first.address):
                pass
    assert caught.value.reason == "PORT_IN_USE"


async def test_health_says_serving_and_then_not() -> None:
    server = RpcServer("127.0.0.1:0")
    server.add(
        storage_pb2_grpc.add_StorageServiceServicer_to_server,
        FailingServicer(NotFoundError("", reason="X")),
        SERVICE,
    )
    async with server, open_channel(server.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service=SERVICE)
        assert (await stub.Check(request)).status == health_pb2.HealthCheckResponse.SERVING
        await server.drain()
        assert (await stub.Check(request)).status == health_pb2.HealthCheckResponse.NOT_SERVING


async def test_reflection_names_the_service() -> None:
    async for stub in serve(NotFoundError("", reason="X")):
        assert stub is not None
    server = RpcServer("127.0.0.1:0")
    server.add(
        storage_pb2_grpc.add_StorageServiceServicer_to_server, FailingServicer(NotFoundError("", reason="X")), SERVICE
    )
    async with server, open_channel(server.address) as channel:
        names = await _reflected_names(channel)
    assert SERVICE in names


async def _reflected_names(channel: grpc.aio.Channel) -> list[str]:
    call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    answer = await call.read()
    await call.done_writing()
    return [service.name for service in answer.list_services_response.service]

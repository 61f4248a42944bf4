"""A gRPC server as every service runs it: errors, tracing, health, reflection and an orderly end built in."""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self, TypeVar

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from opentelemetry.instrumentation.grpc import aio_server_interceptor, filters

from kindling.platform.errors import FailedPreconditionError
from kindling.platform.rpc import spans
from kindling.platform.rpc.channel import MAX_MESSAGE_BYTES
from kindling.platform.rpc.interceptors import ErrorInterceptor
from kindling.platform.rpc.spans import TelemetryServicer
from kindling.platform.telemetry import process_spans, tracing_enabled
from kindling.v1 import telemetry_pb2_grpc

T = TypeVar("T")
_OPTIONS = [
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # Without this two processes can bind the same port and share its connections.
    ("grpc.so_reuseport", 0),
    # Clients of ours ping every 10 s; by default the server would call that too many pings.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
]


class RpcServer:
    """Serves the servicers added to it between ``async with``'s begin and end.

    Entering binds and starts; :class:`FailedPreconditionError` with reason PORT_IN_USE if the port is taken. Leaving
    says NOT_SERVING, lets running calls end for ``grace_seconds`` and then cancels them. ``untraced`` are methods, by
    name, that get no span.
    """

    def __init__(
        self,
        listen_address: str,
        *,
        advertise_host: str = "",
        grace_seconds: float = 5.0,
        untraced: Sequence[str] = (),
    ) -> None:
        self._listen_address = listen_address
        self._host = advertise_host or listen_address.rsplit(":", 1)[0]
        self._grace_seconds = grace_seconds
        self._server = grpc.aio.server(interceptors=_interceptors(untraced), options=_OPTIONS)
        self._health = health.aio.HealthServicer()
        self._names = [health.SERVICE_NAME, reflection.SERVICE_NAME]
        self.port = 0
        self.add(
            telemetry_pb2_grpc.add_TelemetryServiceServicer_to_server,
            TelemetryServicer(process_spans()),
            spans.SERVICE_NAME,
        )

    def add(self, register: Callable[[T, grpc.aio.Server], None], servicer: T, name: str) -> None:
        """Serve ``servicer``; ``name`` is its full name, for instance ``kindling.v1.StorageService``."""
        register(servicer, self._server)
        self._names.append(name)

    @property
    def address(self) -> str:
        """The ``host:port`` that others dial."""
        return f"{self._host}:{self.port}"

    async def drain(self) -> None:
        """Tell health checks that no new work is taken."""
        await self._health.enter_graceful_shutdown()

    async def __aenter__(self) -> Self:
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection(self._names, self._server)
        self.port = self._bind()
        await self._server.start()
        for name in ("", *self._names):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.drain()
        await self._server.stop(self._grace_seconds)

    def _bind(self) -> int:
        try:
            return self._server.add_insecure_port(self._listen_address)
        except RuntimeError as error:
            raise FailedPreconditionError(
                f"cannot listen on {self._listen_address}: another process has the port, or the host is not ours; "
                "choose another address",
                reason="PORT_IN_USE",
                metadata={"address": self._listen_address},
            ) from error


def _interceptors(untraced: Sequence[str]) -> list[grpc.aio.ServerInterceptor]:
    # Tracing goes first so that the span covers what the error interceptor does.
    left_out = filters.any_of(
        filters.health_check(),
        filters.service_name(spans.SERVICE_NAME),
        *(filters.method_name(name) for name in untraced),
    )
    tracing = [aio_server_interceptor(filter_=filters.negate(left_out))] if tracing_enabled() else []
    return [*tracing, ErrorInterceptor()]

"""A collector that takes everything and keeps nothing."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

_SERVICES = ("trace.v1.TraceService", "metrics.v1.MetricsService", "logs.v1.LogsService")
_TRACES = _SERVICES[0]


class Collector:
    """Answers every export with an empty message, which says that all of it was taken; counts those of spans."""

    def __init__(self) -> None:
        self.trace_exports = 0
        self.address = ""

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """What a server needs to be this collector; the messages stay bytes."""
        return [
            grpc.method_handlers_generic_handler(
                f"opentelemetry.proto.collector.{service}",
                {"Export": grpc.unary_unary_rpc_method_handler(self._take_spans if service == _TRACES else _take)},
            )
            for service in _SERVICES
        ]

    async def _take_spans(self, export: bytes, context: "grpc.aio.ServicerContext[Any, Any]") -> bytes:
        self.trace_exports += 1
        return await _take(export, context)


async def _take(_export: bytes, _context: "grpc.aio.ServicerContext[Any, Any]") -> bytes:
    return b""


@asynccontextmanager
async def running_collector() -> AsyncIterator[Collector]:
    """Serve on a fresh loopback port."""
    collector = Collector()
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(collector.handlers())
    collector.address = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield collector
    finally:
        await server.stop(0)

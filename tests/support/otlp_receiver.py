"""An OTLP receiver in the test's own process: keeps every span, log record and metric that a service exports."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


@dataclass(frozen=True)
class Span:
    """What the tests look at."""

    trace_id: str
    span_id: str
    parent_id: str
    service: str
    name: str
    links: tuple[str, ...] = ()


@dataclass(frozen=True)
class Line:
    """A log record."""

    service: str
    body: str
    trace_id: str


@dataclass
class Received:
    """Every span, log record and metric so far; ``changed`` is notified at each export of spans.

    ``metrics`` are the points that each metric had last, by its name, and ``exemplars`` the traces that they point at.
    """

    spans: list[Span] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    metrics: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    exemplars: set[str] = field(default_factory=set)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def trace(self, trace_id: str) -> list[Span]:
        """Return the spans of one trace."""
        return [span for span in self.spans if span.trace_id == trace_id]

    async def wait_for(self, predicate, seconds: float = 20) -> None:
        """Return once ``predicate(self)`` holds."""
        async with asyncio.timeout(seconds), self.changed:
            await self.changed.wait_for(lambda: predicate(self))


class _Traces(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, received: Received) -> None:
        self._received = received

    async def Export(self, request, context):
        async with self._received.changed:
            self._received.spans += list(_spans(request))
            self._received.changed.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()


class _Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
    def __init__(self, received: Received) -> None:
        self._received = received

    async def Export(self, request, context):
        for resource in request.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    points = getattr(metric, metric.WhichOneof("data")).data_points
                    self._received.metrics[metric.name] = [_strings(point.attributes) for point in points]
                    self._received.exemplars |= {one.trace_id.hex() for point in points for one in point.exemplars}
        return metrics_service_pb2.ExportMetricsServiceResponse()


class _Logs(logs_service_pb2_grpc.LogsServiceServicer):
    def __init__(self, received: Received) -> None:
        self._received = received

    async def Export(self, request, context):
        for resource in request.resource_logs:
            service = _strings(resource.resource.attributes)["service.name"]
            for scope in resource.scope_logs:
                for record in scope.log_records:
                    self._received.lines.append(Line(service, record.body.string_value, record.trace_id.hex()))
        return logs_service_pb2.ExportLogsServiceResponse()


def _strings(attributes) -> dict[str, str]:
    return {item.key: item.value.string_value for item in attributes}


def _spans(request):
    for resource in request.resource_spans:
        attributes = _strings(resource.resource.attributes)
        for scope in resource.scope_spans:
            for span in scope.spans:
                ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
                links = tuple(link.trace_id.hex() for link in span.links)
                yield Span(*ids, attributes["service.name"], span.name, links)


@asynccontextmanager
async def otlp_receiver() -> AsyncIterator[tuple[str, Received]]:
    """Serve on a fresh loopback port; yields ``http://host:port`` and what arrives."""
    received = Received()
    server = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(_Traces(received), server)
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(_Metrics(received), server)
    logs_service_pb2_grpc.add_LogsServiceServicer_to_server(_Logs(received), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"http://127.0.0.1:{port}", received
    finally:
        await server.stop(0)

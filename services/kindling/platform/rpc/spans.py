"""TelemetryService: the spans that processes keep, on the wire."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from kindling.platform.errors import KindlingError, NotFoundError
from kindling.platform.rpc.channel import ChannelPool, remote_errors
from kindling.platform.span_ring import SpanRing
from kindling.v1 import telemetry_pb2, telemetry_pb2_grpc

SERVICE_NAME = "kindling.v1.TelemetryService"
_PEER_SECONDS = 2.0
_SHOWN_CHARACTERS = 80


class TelemetryServicer(telemetry_pb2_grpc.TelemetryServiceServicer):
    """Answers from a ring."""

    def __init__(self, ring: SpanRing) -> None:
        self._ring = ring

    async def GetSpans(  # noqa: N802
        self, request: telemetry_pb2.GetSpansRequest, _context: grpc.aio.ServicerContext[Any, Any]
    ) -> telemetry_pb2.GetSpansResponse:
        """Return what the ring has of a trace."""
        return kept_spans(self._ring, request.name)


def kept_spans(ring: SpanRing, name: str) -> telemetry_pb2.GetSpansResponse:
    """Return what a ring has of the trace that is called ``name``."""
    trace_id = ring.trace_id_of(name)
    spans = [_span(one) for one in ring.of_trace(trace_id)]
    return telemetry_pb2.GetSpansResponse(trace_id=trace_id, spans=spans, capacity=ring.capacity)


async def gather_spans(
    channels: ChannelPool, addresses: Mapping[str, str], trace_id: str
) -> tuple[list[telemetry_pb2.Span], list[str]]:
    """Ask processes, by their names, for what they keep of a trace; returns it, and who did not answer."""
    async with asyncio.TaskGroup() as tasks:
        asked = {name: tasks.create_task(_ask(channels, at, trace_id)) for name, at in addresses.items()}
    answers = {name: task.result() for name, task in asked.items()}
    spans = [span for answer in answers.values() if answer is not None for span in answer]
    return spans, [name for name, answer in answers.items() if answer is None]


def in_order(spans: Iterable[telemetry_pb2.Span]) -> list[telemetry_pb2.Span]:
    """Return spans by their beginnings."""
    return sorted(spans, key=lambda span: (span.start_time.ToNanoseconds(), span.span_id))


def trace_unknown(request_id: str) -> NotFoundError:
    """Nobody keeps a span of a request."""
    shown = request_id if len(request_id) <= _SHOWN_CHARACTERS else f"{request_id[:_SHOWN_CHARACTERS]}…"
    return NotFoundError(
        f"No process keeps a span of {shown!r}. Either it is long ago (each keeps its last few thousand spans), "
        "or it was not sampled (OTEL_TRACES_SAMPLER), or KINDLING_TRACE_RING_SPANS is 0; "
        "the id is that of the answer or its header x-request-id.",
        reason="TRACE_UNKNOWN",
        metadata={"request_id": shown},
    )


async def _ask(channels: ChannelPool, address: str, trace_id: str) -> list[telemetry_pb2.Span] | None:
    stub = telemetry_pb2_grpc.TelemetryServiceStub(channels.get(address))
    try:
        with remote_errors(address):
            answer = await stub.GetSpans(telemetry_pb2.GetSpansRequest(name=trace_id), timeout=_PEER_SECONDS)
    except KindlingError:
        return None
    return list(answer.spans)


def _span(span: ReadableSpan) -> telemetry_pb2.Span:
    resource, failed = span.resource.attributes, span.status.status_code is StatusCode.ERROR
    return telemetry_pb2.Span(
        span_id=_hex(span.context.span_id) if span.context else "",
        parent_span_id=_hex(span.parent.span_id) if span.parent else "",
        name=span.name,
        service=str(resource.get("service.name", "")),
        service_instance=str(resource.get("service.instance.id", "")),
        start_time=_timestamp(span.start_time),
        end_time=_timestamp(span.end_time) if span.end_time else None,
        attributes={key: _text(value) for key, value in (span.attributes or {}).items()},
        error=(span.status.description or "failed") if failed else "",
        events=[telemetry_pb2.SpanEvent(name=event.name, time=_timestamp(event.timestamp)) for event in span.events],
        links=[
            telemetry_pb2.SpanLink(trace_id=f"{link.context.trace_id:032x}", span_id=_hex(link.context.span_id))
            for link in span.links
        ],
    )


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def _hex(span_id: int) -> str:
    return f"{span_id:016x}"


def _timestamp(nanoseconds: int | None) -> Timestamp:
    stamp = Timestamp()
    stamp.FromNanoseconds(nanoseconds or 0)
    return stamp

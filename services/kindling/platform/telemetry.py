"""OpenTelemetry set-up. Nothing is exported, and nothing costs time, unless OTEL_EXPORTER_OTLP_ENDPOINT is set."""

import os
from collections.abc import Sequence

from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

ENDPOINT_VARIABLE = "OTEL_EXPORTER_OTLP_ENDPOINT"
# An absent collector must not hold a process: the exporter's own timeout bounds every export, the last one included.
EXPORT_TIMEOUT_SECONDS = 1
SPAN_DELAY_MILLIS = 500


class Telemetry:
    """The process's tracer and meter providers."""

    def __init__(self, tracer_provider: TracerProvider, meter_provider: MeterProvider) -> None:
        self._tracer_provider = tracer_provider
        self._meter_provider = meter_provider

    def shutdown(self) -> None:
        """Export what is buffered, within about a second, and stop."""
        self._tracer_provider.shutdown()
        self._meter_provider.shutdown(timeout_millis=EXPORT_TIMEOUT_SECONDS * 1000)


def configure_telemetry(service: str, instance_id: str = "", readers: Sequence[MetricReader] = ()) -> Telemetry:
    """Install the process's providers; ``readers`` are metric readers besides OTLP's, for instance Prometheus'."""
    resource = Resource.create(
        {"service.name": f"kindling-{service}", "service.namespace": "kindling", "service.instance.id": instance_id}
    )
    exporting = bool(os.environ.get(ENDPOINT_VARIABLE))
    tracer_provider = TracerProvider(None if exporting else ALWAYS_OFF, resource=resource, shutdown_on_exit=False)
    metric_readers = list(readers)
    if exporting:
        tracer_provider.add_span_processor(_span_processor())
        metric_readers.append(PeriodicExportingMetricReader(OTLPMetricExporter(timeout=EXPORT_TIMEOUT_SECONDS)))
    meter_provider = MeterProvider(metric_readers, resource=resource, shutdown_on_exit=False)
    trace.set_tracer_provider(tracer_provider)
    metrics.set_meter_provider(meter_provider)
    return Telemetry(tracer_provider, meter_provider)


def tracing_enabled() -> bool:
    """Whether spans go anywhere; interceptors are left out when they do not."""
    return bool(os.environ.get(ENDPOINT_VARIABLE))


def _span_processor() -> BatchSpanProcessor:
    exporter = OTLPSpanExporter(timeout=EXPORT_TIMEOUT_SECONDS)
    return BatchSpanProcessor(
        exporter, schedule_delay_millis=SPAN_DELAY_MILLIS, export_timeout_millis=EXPORT_TIMEOUT_SECONDS * 1000
    )

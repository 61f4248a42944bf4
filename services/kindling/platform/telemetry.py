"""OpenTelemetry set-up: traces, metrics and logs.

They are exported by OTLP where the standard variables name a collector: OTEL_EXPORTER_OTLP_ENDPOINT, or
OTEL_EXPORTER_OTLP_TRACES_ENDPOINT and its like for one signal. OTEL_TRACES_SAMPLER, OTEL_RESOURCE_ATTRIBUTES,
OTEL_SERVICE_NAME and OTEL_SDK_DISABLED are heeded; OTEL_TRACES_EXPORTER=none and its like leave one signal out. Of
OTLP's protocols there is `grpc` alone. KINDLING_TRACE_RING_SPANS has a process keep so many of its last spans,
collector or not. Without any of them nothing is traced, and nothing costs time.
"""

import os
from collections.abc import Sequence
from functools import cache, partial
from threading import Thread
from time import monotonic
from typing import Final, Protocol

from opentelemetry import metrics, trace
from opentelemetry._logs import set_logger_provider
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from kindling.platform.span_ring import SpanRing

RING_VARIABLE: Final = "KINDLING_TRACE_RING_SPANS"
EXPORT_TIMEOUT_SECONDS: Final = 1
"""Of one export, also where nobody answers."""
SHUTDOWN_SECONDS: Final = 0.9
"""What a collector that is away may cost the end of a process, all signals together."""
_DELAY_MILLIS = 500


class _Provider(Protocol):
    def shutdown(self) -> None: ...


class Telemetry:
    """The process's providers."""

    def __init__(self, providers: Sequence[_Provider]) -> None:
        self._providers = providers

    def shutdown(self) -> None:
        """Export what is buffered, as far as that is done within ``SHUTDOWN_SECONDS``, and stop.

        The SDK bounds each export and not their sum, so that threads do it that nobody waits for any longer then.
        """
        threads = [Thread(target=provider.shutdown, daemon=True) for provider in self._providers]
        ends_at = monotonic() + SHUTDOWN_SECONDS
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, ends_at - monotonic()))


def configure_telemetry(service: str, instance_id: str = "", readers: Sequence[MetricReader] = ()) -> Telemetry:
    """Install the process's providers; ``readers`` are metric readers besides OTLP's, for instance Prometheus'."""
    resource = process_resource(service, instance_id)
    tracers = _tracer_provider(resource)
    meters = MeterProvider([*readers, *_otlp_readers()], resource=resource, shutdown_on_exit=False)
    providers: list[_Provider] = [tracers, _Metrics(meters)]
    trace.set_tracer_provider(tracers)
    metrics.set_meter_provider(meters)
    if exports("LOGS"):
        loggers = LoggerProvider(resource, shutdown_on_exit=False)
        exporter = OTLPLogExporter(timeout=EXPORT_TIMEOUT_SECONDS)
        loggers.add_log_record_processor(BatchLogRecordProcessor(exporter, schedule_delay_millis=_DELAY_MILLIS))
        set_logger_provider(loggers)
        providers.append(loggers)
    return Telemetry(providers)


def bad_variables() -> list[str]:
    """Return a line for each variable of the environment by which somebody wants what there is not."""
    named = dict(_protocol(signal) for signal in ("TRACES", "METRICS", "LOGS") if exports(signal))
    problems = [
        f"{name}: only grpc is spoken, as a rule to port 4317 (got {protocol!r})"
        for name, protocol in named.items()
        if protocol != "grpc"
    ]
    number = os.environ.get(RING_VARIABLE, "").strip() or "0"
    if not number.isdecimal():
        problems.append(f"{RING_VARIABLE}: must be a number of spans, 0 for none (got {number!r})")
    return problems


def tracing_enabled() -> bool:
    """Whether spans go anywhere; interceptors are left out when they do not."""
    return not _sdk_is_disabled() and (exports("TRACES") or ring_capacity() > 0)


def exports(signal: str) -> bool:
    """Whether TRACES, METRICS or LOGS go to a collector."""
    names = "OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT"
    is_wanted = os.environ.get(f"OTEL_{signal}_EXPORTER", "otlp") != "none" and not _sdk_is_disabled()
    return is_wanted and any(os.environ.get(name) for name in names)


def ring_capacity() -> int:
    """How many spans this process keeps."""
    number = os.environ.get(RING_VARIABLE, "").strip()
    return int(number) if number.isdecimal() and not _sdk_is_disabled() else 0


@cache
def process_spans() -> SpanRing:
    """The spans that this process keeps."""
    return SpanRing(ring_capacity())


def _protocol(signal: str) -> tuple[str, str]:
    """Return how a signal is to be sent, and the variable that says so."""
    own, shared = f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"
    name = own if os.environ.get(own) else shared
    return name, os.environ.get(name) or "grpc"


def _tracer_provider(resource: Resource) -> TracerProvider:
    sampler = None if tracing_enabled() else ALWAYS_OFF
    provider = TracerProvider(sampler, resource=resource, shutdown_on_exit=False)
    if ring_capacity():
        provider.add_span_processor(process_spans())
    if exports("TRACES"):
        exporter = OTLPSpanExporter(timeout=EXPORT_TIMEOUT_SECONDS)
        provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=_DELAY_MILLIS))
    return provider


def _otlp_readers() -> list[MetricReader]:
    if not exports("METRICS"):
        return []
    return [PeriodicExportingMetricReader(OTLPMetricExporter(timeout=EXPORT_TIMEOUT_SECONDS))]


class _Metrics:
    """A meter provider that ends with the time-out of one export, not with the SDK's 30 s."""

    def __init__(self, provider: MeterProvider) -> None:
        self.shutdown = partial(provider.shutdown, timeout_millis=EXPORT_TIMEOUT_SECONDS * 1000)


def process_resource(service: str, instance_id: str) -> Resource:
    """Return what OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say of the process, and our names besides."""
    names = {"service.namespace": "kindling", "service.name": f"kindling-{service}"}
    if instance_id:
        names["service.instance.id"] = instance_id
    return Resource.create(names).merge(OTELResourceDetector().detect())


def _sdk_is_disabled() -> bool:
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"

"""Collectors that are away, silent or refusing: no service notices, and its end takes at most a second longer."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc

# Says how long a thousand pieces of work took, each with a span, a log line and a metric, and how long its telemetry's
# end did.
SERVICE = """
import sys, time
from opentelemetry import metrics, trace
from kindling.platform import process
from kindling.platform.logging import get_logger
from kindling.platform.process import Shutdown, run_service
from kindling.platform.settings import ServiceSettings
from kindling.platform.telemetry import Telemetry

end = Telemetry.shutdown

def shutdown(telemetry):
    began = time.monotonic()
    end(telemetry)
    print(time.monotonic() - began, flush=True)

Telemetry.shutdown = shutdown

async def serve(shutdown: Shutdown) -> None:
    tracer, counter = trace.get_tracer("sample"), metrics.get_meter("sample").create_counter("sample")
    began = time.monotonic()
    for _ in range(1000):
        with tracer.start_as_current_span("work"):
            counter.add(1)
            get_logger("sample").info("worked")
    print(time.monotonic() - began, flush=True)
    await shutdown.requested.wait()

run_service("sample", ServiceSettings(), serve)
"""
TELEMETRY_SECONDS = 1.0
SLACK_SECONDS = 1.0  # for a busy machine


class _Refusing(
    trace_service_pb2_grpc.TraceServiceServicer,
    metrics_service_pb2_grpc.MetricsServiceServicer,
    logs_service_pb2_grpc.LogsServiceServicer,
):
    def Export(self, request, context):
        context.abort(grpc.StatusCode.UNAVAILABLE, "come back later")


@contextmanager
def away() -> Iterator[int]:
    with socket.socket() as taken:  # bound, so that nobody else gets it, and not listening
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@contextmanager
def silent() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@contextmanager
def refusing() -> Iterator[int]:
    server = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(_Refusing(), server)
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(_Refusing(), server)
    logs_service_pb2_grpc.add_LogsServiceServicer_to_server(_Refusing(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None)


@pytest.mark.parametrize("collector", [away, silent, refusing])
def test_work_goes_on_and_the_end_comes_soon(collector, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with collector() as port, log.open("w") as errors:
        env = os.environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}
        process = subprocess.Popen(
            [sys.executable, "-c", SERVICE], stdout=subprocess.PIPE, stderr=errors, text=True, env=env
        )
        assert process.stdout is not None
        worked_seconds = float(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=30)
    assert process.returncode == 0, log.read_text()
    assert worked_seconds < TELEMETRY_SECONDS + SLACK_SECONDS  # had one export been waited for, it would be longer
    assert float(rest) < TELEMETRY_SECONDS + SLACK_SECONDS
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert sum(line["event"] == "worked" for line in lines) == 1000
    complaints = [line for line in lines if line["event"] not in ("worked", "service_stopped")]
    assert len(complaints) <= 6  # and not two a second
    assert {line["component"].split(".")[0] for line in complaints} <= {"opentelemetry"}
    assert {line["service"] for line in lines} == {"sample"}

"""The gateway as a process of its own: metrics, traces, signals, settings."""

import asyncio
import os
import signal
import socket
import sys
from contextlib import asynccontextmanager

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from kindling.gateway import http_edge, telemetry
from kindling.platform.errors import UnavailableError
from support.gateway_peers import MODEL, REPLY, gateway_rig

BODY = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}


@asynccontextmanager
async def gateway_process(**settings: object):
    """Start ``python -m kindling.gateway``; yields the process and, once it has said so, its HTTP address."""
    env = {f"KINDLING_GATEWAY_{name.upper()}": str(value) for name, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "kindling.gateway",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **env},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def started_at(process: asyncio.subprocess.Process) -> str:
    """Wait for the log line that says where HTTP is served."""
    async with asyncio.timeout(30):
        while line := await process.stderr.readline():
            if b"gateway_started" in line:
                return line.split(b'"http_address": "')[1].split(b'"')[0].decode()
    raise AssertionError("the gateway ended")


async def test_metrics_follow_the_genai_conventions_and_sigterm_ends_it():
    async with (
        gateway_rig() as rig,
        gateway_process(schedulers=rig.scheduler_server.address, http_port=0, listen_address="127.0.0.1:0") as process,
        httpx.AsyncClient(timeout=20) as client,
    ):
        url = f"http://{await started_at(process)}"
        answer = await client.post(f"{url}/v1/chat/completions", json=BODY)
        assert answer.status_code == 200, answer.text
        assert answer.json()["choices"][0]["message"]["content"] == REPLY
        metrics = (await client.get(f"{url}/metrics")).text
        for name in (
            "gen_ai_server_time_to_first_token_seconds_count",
            "gen_ai_server_time_per_output_token_seconds_count",
            "gen_ai_server_request_duration_seconds_count",
        ):
            line = next(line for line in metrics.splitlines() if line.startswith(name))
            assert f'gen_ai_request_model="{MODEL}"' in line
            assert line.endswith(" 1.0")
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            assert await process.wait() == 0


async def test_a_busy_port_is_a_clear_error():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for settings in ({"http_port": port, "listen_address": "127.0.0.1:0"}, {"listen_address": f"127.0.0.1:{port}"}):
            async with gateway_process(**{"http_port": 0, **settings}) as process:
                _, errors = await process.communicate()
                assert process.returncode == 1
                assert b"PORT_IN_USE" in errors
                assert str(port).encode() in errors


async def test_a_bad_setting_is_a_start_up_error():
    async with gateway_process(http_port="high") as process:
        _, errors = await process.communicate()
        assert process.returncode == 78
        assert b"KINDLING_GATEWAY_HTTP_PORT" in errors


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(http_edge, "tracer", provider.get_tracer("test"))
    monkeypatch.setattr(telemetry, "_tracer", provider.get_tracer("test"))
    return exporter


async def test_a_request_joins_the_callers_trace(spans: InMemorySpanExporter):
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    async with gateway_rig() as rig:
        headers = {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01", "x-kindling-tenant": "acme"}
        answer = await rig.client.post("/v1/chat/completions", json=BODY, headers=headers)
        assert answer.headers["x-request-id"] == trace_id
        completion_tokens = answer.json()["usage"]["completion_tokens"]
    chat, span = spans.get_finished_spans()
    assert f"{span.context.trace_id:032x}" == trace_id
    assert span.name == "POST /v1/chat/completions"
    assert span.attributes["gen_ai.response.id"] == answer.json()["id"]
    assert chat.parent.span_id == span.context.span_id
    assert chat.name == f"chat {MODEL}"
    assert chat.attributes["gen_ai.request.model"] == MODEL
    assert chat.attributes["gen_ai.operation.name"] == "chat"
    assert chat.attributes["gen_ai.provider.name"] == "kindling"
    assert chat.attributes["kindling.tenant"] == "acme"
    assert chat.attributes["gen_ai.usage.output_tokens"] == completion_tokens
    assert chat.attributes["gen_ai.response.finish_reasons"] == (answer.json()["choices"][0]["finish_reason"],)
    assert span.attributes["http.response.status_code"] == 200
    assert span.attributes["http.request.method"] == "POST"
    assert span.status.is_unset


async def test_a_requests_span_says_what_was_asked_for(spans: InMemorySpanExporter):
    async with gateway_rig() as rig:
        sampling = {"max_tokens": 3, "temperature": 0.5, "top_p": 0.9, "seed": 7, "n": 2}
        answer = await rig.client.post("/v1/chat/completions", json=BODY | sampling)
        assert answer.status_code == 200, answer.text
    chat, _ = spans.get_finished_spans()
    asked = {name: value for name, value in chat.attributes.items() if name.startswith("gen_ai.request.")}
    assert asked == {
        "gen_ai.request.model": MODEL,
        "gen_ai.request.max_tokens": 3,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.request.seed": 7,
        "gen_ai.request.choice.count": 2,
    }
    assert "hi" not in map(str, chat.attributes.values())  # what people write is nobody's business


async def test_a_failure_of_ours_is_one_of_the_span(spans: InMemorySpanExporter):
    async with gateway_rig() as rig:
        rig.scheduler.refuse = lambda: UnavailableError("no node has room", reason="NO_WORKERS")
        await rig.client.post("/v1/chat/completions", json=BODY)
    chat, span = spans.get_finished_spans()
    assert chat.attributes["error.type"] == "NO_WORKERS"
    assert span.attributes["http.response.status_code"] == 503
    assert {chat.status.status_code, span.status.status_code} == {StatusCode.ERROR}

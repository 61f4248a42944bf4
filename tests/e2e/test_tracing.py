"""One cold request is one tree of spans through all four services, with its log lines, and metrics that point at it."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import httpx

from kindling.cli.options import EngineKind
from support import api
from support.checkpoints import make_checkpoint
from support.cluster import cluster_options, running_cluster
from support.metric_list import listed_metrics
from support.otlp_receiver import Received, Span, otlp_receiver

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
CALLER_SPAN_ID = "b7ad6b7169203331"
SERVICES = {f"kindling-{name}" for name in ("gateway", "scheduler", "worker", "storage")}


async def test_a_cold_request_is_one_tree(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "model")
    async with otlp_receiver() as (endpoint, received):
        options = cluster_options(
            tmp_path / "data",
            engine=EngineKind.TRANSFORMERS,
            extra_env=(("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),),
        )
        loop = asyncio.get_running_loop()

        def wait_until_whole() -> None:
            asyncio.run_coroutine_threadsafe(received.wait_for(_is_whole), loop).result()

        await asyncio.to_thread(_one_request, options, source, wait_until_whole)
        # Every process has ended, so everything that will come has come.
        spans = received.trace(TRACE_ID)
    assert {span.service for span in spans} == SERVICES
    assert _orphans(spans) == []
    assert ("kindling-scheduler", "instance_started", TRACE_ID) in {
        (line.service, line.body, line.trace_id) for line in received.lines
    }
    assert {"kindling-gateway", "kindling-scheduler", "kindling-storage"} <= {line.service for line in received.lines}
    assert received.metrics["gen_ai.server.time_to_first_token"][0]["gen_ai.request.model"] == "traced"
    assert TRACE_ID in received.exemplars
    listed = listed_metrics()
    sent = {name: {key for point in points for key in point} for name, points in received.metrics.items()}
    unlisted = {name: keys - listed[name] for name, keys in sent.items() if keys - listed[name]}
    assert unlisted == {}
    assert len(sent) > 10


def _is_whole(received: Received) -> bool:
    spans = received.trace(TRACE_ID)
    loaded = any(span.name == "checkpoint.load" for span in spans)
    return loaded and {span.service for span in spans} == SERVICES and not _orphans(spans)


def _one_request(options, source: Path, wait_until_whole: Callable[[], None]) -> None:
    with running_cluster(options) as cluster:
        api.deploy(cluster.grpc_address, "traced", source)
        answer = httpx.post(
            f"{cluster.http_url}/v1/completions",
            json={"model": "traced", "prompt": "fox", "max_tokens": 4, "temperature": 0},
            headers={"traceparent": f"00-{TRACE_ID}-{CALLER_SPAN_ID}-01"},
            timeout=60,
        )
        assert answer.status_code == 200, answer.text
        wait_until_whole()  # while the model still runs


def _orphans(spans: list[Span]) -> list[Span]:
    known = {span.span_id for span in spans} | {CALLER_SPAN_ID}
    return [span for span in spans if span.parent_id not in known]

"""Traces arrive whole at receivers that others wrote: one tree per request over all four services."""

import asyncio
from collections import defaultdict
from pathlib import Path

import httpx
import pytest

from kindling.cli.options import EngineKind
from support import api
from support.checkpoints import make_checkpoint
from support.cluster import cluster_options, running_cluster
from support.otlp_receiver import Span, otlp_receiver
from support.real_receivers import mock_otlp_server, rotel

SERVICES = {f"kindling-{name}" for name in ("gateway", "scheduler", "worker", "storage")}
# A cold request of each model goes through every service.
MODELS = ("first", "second")


@pytest.mark.slow
async def test_one_tree_per_request_through_a_collector(tmp_path: Path) -> None:
    async with otlp_receiver() as (receiver, received):
        async with rotel(receiver, tmp_path / "rotel.log") as endpoint:
            requests = await asyncio.to_thread(_cold_requests, tmp_path, endpoint)
        _assert_one_tree_each(requests, received.spans)
        assert "gen_ai.server.time_to_first_token" in received.metrics
        assert set(requests) <= {line.trace_id for line in received.lines}


@pytest.mark.slow
async def test_one_tree_per_request_at_a_mock_server(tmp_path: Path) -> None:
    async with mock_otlp_server(tmp_path) as (endpoint, received):
        requests = await asyncio.to_thread(_cold_requests, tmp_path, endpoint)
    _assert_one_tree_each(requests, received.spans)


def _cold_requests(place: Path, endpoint: str) -> list[str]:
    """Return the ids of the requests' traces, after the cluster has ended."""
    options = cluster_options(
        place / "data", engine=EngineKind.TRANSFORMERS, extra_env=(("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),)
    )
    with running_cluster(options) as cluster:
        return [_cold_request(cluster, model, place / model) for model in MODELS]


def _cold_request(cluster, model: str, source: Path) -> str:
    api.deploy(cluster.grpc_address, model, make_checkpoint(source))
    body = {"model": model, "prompt": "fox", "max_tokens": 4, "temperature": 0}
    answer = httpx.post(f"{cluster.http_url}/v1/completions", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.headers["x-request-id"]


def _assert_one_tree_each(requests: list[str], spans: list[Span]) -> None:
    traces: dict[str, list[Span]] = defaultdict(list)
    for span in spans:
        traces[span.trace_id].append(span)
    for request in requests:
        assert {span.service for span in traces[request]} == SERVICES
    for trace in traces.values():  # those of deployments and of the scheduler's own calls too
        known = {span.span_id for span in trace}
        roots = [span for span in trace if not span.parent_id]
        assert len(roots) == 1, trace
        assert [span for span in trace if span.parent_id and span.parent_id not in known] == []

"""What the gateway shows of a request while the scheduler, whom it asks for the others' spans, does not answer."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from kindling.gateway import forwarding
from kindling.gateway.domain.api_keys import ApiKeys
from kindling.gateway.forwarding import TRACE_SECONDS, ClusterForwarder
from kindling.platform.errors import KindlingError, NotFoundError, UnavailableError
from kindling.platform.span_ring import SpanRing
from kindling.v1 import cluster_pb2

NO_SCHEDULER = UnavailableError("no scheduler", reason="NO_SCHEDULER")
UNKNOWN = NotFoundError("unknown", reason="TRACE_UNKNOWN")


class FailingLeader:
    """Raises what it is told to, and keeps how long anybody would have waited."""

    def __init__(self, error: KindlingError) -> None:
        self.error = error
        self.seconds: list[float | None] = []

    async def unary(self, _call: Callable[..., Awaitable[Any]], *, retry_seconds: float | None = None) -> Any:
        self.seconds.append(retry_seconds)
        raise self.error


class Call:
    """As much of a servicer's context as is looked at."""

    def time_remaining(self) -> float:
        return 30.0

    def invocation_metadata(self) -> tuple[()]:
        return ()


@pytest.fixture
def trace_id(monkeypatch: pytest.MonkeyPatch) -> str:
    """That of a request of which the gateway keeps a span."""
    ring = SpanRing(8)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(ring)
    span = provider.get_tracer("test").start_span("POST /v1/completions")
    span.end()
    monkeypatch.setattr(forwarding, "process_spans", lambda: ring)
    return f"{span.get_span_context().trace_id:032x}"


async def ask(leader: FailingLeader, request_id: str) -> cluster_pb2.GetTraceResponse:
    forwarder = ClusterForwarder(leader, ApiKeys([]))
    return await forwarder.GetTrace(cluster_pb2.GetTraceRequest(request_id=request_id), Call())


async def test_its_own_spans_are_shown_soon_and_whose_are_missing_is_said(trace_id: str) -> None:
    leader = FailingLeader(NO_SCHEDULER)
    seen = await ask(leader, trace_id)
    assert [span.name for span in seen.spans] == ["POST /v1/completions"]
    assert seen.trace_id == trace_id
    assert "scheduler" in seen.unreachable[0]
    assert leader.seconds == [TRACE_SECONDS]


async def test_its_own_spans_are_all_there_is_if_nobody_else_keeps_any(trace_id: str) -> None:
    seen = await ask(FailingLeader(UNKNOWN), trace_id)
    assert len(seen.spans) == 1
    assert not seen.unreachable


@pytest.mark.parametrize("error", [NO_SCHEDULER, UNKNOWN])
async def test_with_nothing_to_show_the_error_is_the_leaders(error: KindlingError) -> None:
    with pytest.raises(KindlingError) as caught:
        await ask(FailingLeader(error), "x" * 5000)
    assert caught.value.reason == error.reason
    assert len(caught.value.message) < 1000

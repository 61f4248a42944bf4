"""The ring has a trace's spans, by any of its names, and forgets the oldest."""

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import StatusCode

from kindling.platform.rpc.spans import kept_spans
from kindling.platform.span_ring import SpanRing


def traced(capacity: int = 8):
    ring, provider = SpanRing(capacity), TracerProvider()
    provider.add_span_processor(ring)
    return ring, provider.get_tracer("test")


def trace_id(span) -> str:
    return f"{span.get_span_context().trace_id:032x}"


def test_a_trace_is_found_by_its_id_and_by_its_answers() -> None:
    ring, tracer = traced()
    with tracer.start_as_current_span("POST", attributes={"gen_ai.response.id": "chatcmpl-1"}) as root:
        tracer.start_span("child").end()
    tracer.start_span("another trace").end()
    for name in (trace_id(root), trace_id(root).upper(), "chatcmpl-1"):
        found = kept_spans(ring, name)
        assert found.trace_id == trace_id(root)
        assert [span.name for span in found.spans] == ["child", "POST"]
    child, post = found.spans
    assert child.parent_span_id == post.span_id
    assert not post.parent_span_id


def test_what_nobody_knows_is_empty() -> None:
    ring, tracer = traced()
    tracer.start_span("one").end()
    assert not kept_spans(ring, "chatcmpl-2").trace_id
    assert not kept_spans(ring, "0" * 32).spans
    assert kept_spans(ring, "").capacity == 8


def test_the_oldest_are_forgotten() -> None:
    ring, tracer = traced(capacity=2)
    spans = [tracer.start_span(str(number)) for number in range(3)]
    for span in spans:
        span.end()
    assert [len(ring.of_trace(trace_id(span))) for span in spans] == [0, 1, 1]


def test_spans_under_way_are_there_without_an_end() -> None:
    ring, tracer = traced(capacity=2)
    spans = [tracer.start_span(str(number)) for number in range(3)]  # one too many: the ring is bounded for them, too
    assert [len(ring.of_trace(trace_id(span))) for span in spans] == [0, 1, 1]
    (seen,) = kept_spans(ring, trace_id(spans[2])).spans
    assert not seen.HasField("end_time")
    spans[2].end()
    (seen,) = kept_spans(ring, trace_id(spans[2])).spans
    assert seen.HasField("end_time")


def test_failures_links_and_lists_are_told() -> None:
    ring, tracer = traced()
    other = tracer.start_span("other")
    span = tracer.start_span("failing", attributes={"gen_ai.response.finish_reasons": ["stop", "length"]})
    span.add_link(other.get_span_context())
    span.add_event("first_token")
    span.record_exception(ValueError())
    span.set_status(StatusCode.ERROR, "BROKEN")
    span.end()
    (seen,) = kept_spans(ring, trace_id(span)).spans
    assert seen.error == "BROKEN"
    assert seen.attributes["gen_ai.response.finish_reasons"] == "stop, length"
    assert [link.trace_id for link in seen.links] == [trace_id(other)]
    assert [event.name for event in seen.events] == ["first_token", "exception"]

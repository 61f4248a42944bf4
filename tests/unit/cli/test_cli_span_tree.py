"""A trace as `kindling trace` draws it."""

from io import StringIO
from pathlib import Path

from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console

from kindling.cli.span_tree import _SHOWN, branches, render_trace
from kindling.v1 import cluster_pb2, telemetry_pb2


def span(name: str, parent: str, begins: float, ends: float | None, **more) -> telemetry_pb2.Span:
    seen = telemetry_pb2.Span(
        span_id=name, parent_span_id=parent, name=name, start_time=at(begins), service="kindling-worker", **more
    )
    if ends is not None:
        seen.end_time.CopyFrom(at(ends))
    return seen


def at(seconds: float) -> Timestamp:
    return Timestamp(seconds=int(seconds), nanos=round(seconds % 1 * 1e9))


def drawn(*spans: telemetry_pb2.Span, unreachable: tuple[str, ...] = (), columns: int = 160) -> str:
    console = Console(width=columns, record=True, file=StringIO())
    seen = cluster_pb2.GetTraceResponse(trace_id="t", spans=spans, unreachable=unreachable)
    console.print(render_trace(seen, columns))
    return console.export_text()


def test_children_follow_their_parents_by_their_beginnings() -> None:
    spans = [
        span("b", "root", 2, 3),
        span("lost", "nobody keeps", 4, 5),
        span("a1", "a", 1, 2),
        span("root", "", 0, 9),
        span("a", "root", 1, 2),
    ]
    found = [(branch.span.name, branch.depth) for branch in branches(spans)]
    assert found == [("root", 0), ("a", 1), ("a1", 2), ("b", 1), ("lost", 0)]


def test_bars_lie_where_the_spans_do() -> None:
    text = drawn(span("root", "", 0, 8), span("late", "root", 6, 8), span("short", "root", 0, 0.001))
    root, late, short = (next(line for line in text.splitlines() if name in line) for name in ("root", "late", "short"))
    assert root.count("█") == 4 * late.count("█") == 32
    assert late.index("█") > root.index("█")
    assert "▏" in short
    assert "+6.0 s" in late


def test_open_spans_errors_links_and_silence_are_shown() -> None:
    links = [telemetry_pb2.SpanLink(trace_id="0123456789abcdef", span_id="beef")]
    text = drawn(span("root", "", 0, 8, error="BROKEN", links=links), span("open", "root", 4, None), unreachable=("w",))
    assert "still open" in text
    assert "BROKEN" in text
    assert "see trace 0123456789abcdef" in text  # whole, for `kindling trace`
    assert "w did not answer" in text


def test_what_a_span_was_about_and_when_something_happened() -> None:
    attributes = {
        "kindling.estimate_seconds": "0.04712345",
        "kindling.load.ssd_bytes": "9437184",
        "kindling.generation.emitted_elsewhere": "0",
        "kindling.node": "node-0",
    }
    events = [telemetry_pb2.SpanEvent(name=name, time=at(3)) for name in ("first_token", "exception")]
    text = drawn(span("root", "", 0, 8), span("part", "root", 2, 4, attributes=attributes, events=events))
    assert "node=node-0  estimate_seconds=0.0471  ssd_bytes=9437184  first_token +3.0 s" in text
    assert "exception" not in text
    assert "emitted_elsewhere" not in text


def test_few_columns_show_whole_names_and_bars() -> None:
    name = "/kindling.v1.StorageService/ReadCheckpointFiles"
    links = [telemetry_pb2.SpanLink(trace_id="0123456789abcdef", span_id="beef")]
    spans = [span("root", "", 0, 8), span(name, "root", 4, 8, service_instance="node-0/worker-0", links=links)]
    text = drawn(*spans, columns=80)
    row = next(line for line in text.splitlines() if "ReadCheckpointFiles" in line)
    assert row.split()[:4] == ["StorageService/ReadCheckpointFiles", "worker", "+4.0", "s"]
    assert "█" in row
    assert "…" not in text
    assert "0123456789abcdef" not in text
    assert "show more of each span" in text
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "see trace 0123456789abcdef" in drawn(*spans, columns=160)


def test_what_is_shown_of_spans_is_what_services_set() -> None:
    services = Path(__file__).parents[3] / "services" / "kindling"
    sources = [path.read_text() for path in services.rglob("*.py") if path.name != "span_tree.py"]
    made = {name for name in _SHOWN if any(f'"{name}"' in source for source in sources)}
    assert set(_SHOWN) - made == {f"kindling.load.{tier}_bytes" for tier in ("dram", "ssd", "remote")}

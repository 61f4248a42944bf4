"""Draws a trace: its spans as a tree, each with its place in time."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.text import Text

from kindling.cli.tables import table
from kindling.cli.values import format_seconds
from kindling.v1 import cluster_pb2, telemetry_pb2

_BAR_CELLS: Final = 32
_COLORS: Final = {
    "kindling-gateway": "cyan",
    "kindling-scheduler": "magenta",
    "kindling-worker": "green",
    "kindling-storage": "yellow",
}
_SHOWN: Final = (
    "gen_ai.request.model",
    "kindling.model",
    "kindling.node",
    "kindling.worker",
    "kindling.estimate_seconds",
    "kindling.load.dram_bytes",
    "kindling.load.ssd_bytes",
    "kindling.load.remote_bytes",
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
    "kindling.generation.emitted_elsewhere",
    "kindling.migration.target",
    "gen_ai.response.finish_reasons",
    "http.response.status_code",
    "error.type",
)
"""Attributes that tell most of what a span was about."""


@dataclass(frozen=True, slots=True)
class Branch:
    """A span, and how deep in the tree it is; one whose parent nobody keeps is at the top."""

    span: telemetry_pb2.Span
    depth: int


def branches(spans: Sequence[telemetry_pb2.Span]) -> Iterator[Branch]:
    """Yield spans from the top of the tree down, each before what it is made of, by their beginnings."""
    known = {span.span_id for span in spans}
    children: dict[str, list[telemetry_pb2.Span]] = defaultdict(list)
    for span in sorted(spans, key=_began):
        children[span.parent_span_id if span.parent_span_id in known else ""].append(span)
    waiting = [Branch(span, 0) for span in reversed(children[""])]
    while waiting:
        branch = waiting.pop()
        yield branch
        below = children.pop(branch.span.span_id, ())
        waiting += [Branch(span, branch.depth + 1) for span in reversed(below)]


def render_trace(seen: cluster_pb2.GetTraceResponse) -> RenderableType:
    """Return a trace to print; it has spans."""
    begin, end = min(map(_began, seen.spans)), max(max(_began(span), _ended(span)) for span in seen.spans)
    shown = table("span", "service", "begins", "takes", "", "")
    for branch in branches(seen.spans):
        span = branch.span
        shown.add_row(
            Text("  " * branch.depth + span.name, style="red" if span.error else ""),
            Text(_service(span), style=_COLORS.get(span.service, "")),
            f"+{format_seconds((_began(span) - begin) / 1e9)}",
            format_seconds((_ended(span) - _began(span)) / 1e9) if span.HasField("end_time") else "still open",
            Text(_bar(span, begin, end), style=_COLORS.get(span.service, "")),
            Text(_details(span, begin), style="dim"),
        )
    head = f"[bold]{seen.trace_id}[/]  {len(seen.spans)} spans, {format_seconds((end - begin) / 1e9)}"
    missing = [f"[yellow]{escape(name)} did not answer; its spans are missing[/]" for name in seen.unreachable]
    return Group(head, "", shown, *missing)


def _bar(span: telemetry_pb2.Span, begin: int, end: int) -> str:
    """Where a span lies between the trace's begin and end; at least a thin line."""
    cell = max(1, end - begin) / _BAR_CELLS
    first = min(_BAR_CELLS - 1, int((_began(span) - begin) / cell))
    lasts = (_ended(span) if span.HasField("end_time") else end) - _began(span)
    cells = max(0, round(lasts / cell))
    return " " * first + ("█" * min(cells, _BAR_CELLS - first) or "▏")


def _details(span: telemetry_pb2.Span, begin: int) -> str:
    shown = [(name.rpartition(".")[2], span.attributes.get(name, "0")) for name in _SHOWN]
    found = [f"{name}={_short(value)}" for name, value in shown if value not in ("", "0")]
    events = [
        f"{event.name} +{format_seconds((event.time.ToNanoseconds() - begin) / 1e9)}"
        for event in span.events
        if event.name != "exception"  # which is the span's error
    ]
    links = [f"see trace {link.trace_id}" for link in span.links]
    return "  ".join([*found, *events, *links, *([span.error] if span.error else [])])


def _short(value: str) -> str:
    """A fraction with no more digits than anybody reads, anything else as it is."""
    try:
        return value if value.isdigit() else f"{float(value):.3g}"
    except ValueError:
        return value


def _service(span: telemetry_pb2.Span) -> str:
    name = span.service.removeprefix("kindling-")
    return f"{name} {span.service_instance}".rstrip()


def _began(span: telemetry_pb2.Span) -> int:
    return span.start_time.ToNanoseconds()


def _ended(span: telemetry_pb2.Span) -> int:
    return span.end_time.ToNanoseconds()

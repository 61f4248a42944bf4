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
_FEWEST_CELLS: Final = 8
_DETAILS_COLUMNS: Final = 40
# When a span began and how long it took, and what lies between all columns.
_TIMES_COLUMNS: Final = 30
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


def render_trace(seen: cluster_pb2.GetTraceResponse, columns: int) -> RenderableType:
    """Return a trace, which has spans, to print on so many columns; on few it says less of each span."""
    begin, end = min(map(_began, seen.spans)), max(max(_began(span), _ended(span)) for span in seen.spans)
    rows = list(branches(seen.spans))
    wanted = _columns_of(rows, indent=2, is_brief=False) + _BAR_CELLS + _DETAILS_COLUMNS
    is_brief = columns < wanted
    cells = min(_BAR_CELLS, max(_FEWEST_CELLS, columns - _columns_of(rows, indent=1, is_brief=True)))
    shown = table("span", "service", "begins", "takes", "", "")
    for column in shown.columns:
        column.no_wrap = True
    shown.columns[-1].no_wrap, shown.columns[-1].overflow = False, "fold"  # ids of traces stay whole
    for branch in rows:
        span = branch.span
        color = _COLORS.get(span.service, "")
        shown.add_row(
            Text(" " * branch.depth * (1 if is_brief else 2) + _name(span), style="red" if span.error else ""),
            Text(_service(span, is_brief=is_brief), style=color),
            f"+{format_seconds((_began(span) - begin) / 1e9)}",
            format_seconds((_ended(span) - _began(span)) / 1e9) if span.HasField("end_time") else "still open",
            Text(_bar(span, begin, end, cells if is_brief else _BAR_CELLS), style=color),
            Text("" if is_brief else _details(span, begin), style="dim"),
        )
    head = f"[bold]{seen.trace_id}[/]  {len(seen.spans)} spans, {format_seconds((end - begin) / 1e9)}"
    notes = [f"[yellow]{escape(name)} did not answer; its spans are missing[/]" for name in seen.unreachable]
    if is_brief:
        notes.append(f"[dim]{wanted} columns, or a pipe, show more of each span[/]")
    return Group(head, "", shown, *notes)


def _columns_of(rows: Sequence[Branch], *, indent: int, is_brief: bool) -> int:
    """How many columns all but the bars and the details take."""
    names = max(row.depth * indent + len(_name(row.span)) for row in rows)
    return names + max(len(_service(row.span, is_brief=is_brief)) for row in rows) + _TIMES_COLUMNS


def _name(span: telemetry_pb2.Span) -> str:
    return span.name.removeprefix("/kindling.v1.")


def _bar(span: telemetry_pb2.Span, begin: int, end: int, cells: int) -> str:
    """Where a span lies between the trace's begin and end; at least a thin line."""
    cell = max(1, end - begin) / cells
    first = min(cells - 1, int((_began(span) - begin) / cell))
    lasts = (_ended(span) if span.HasField("end_time") else end) - _began(span)
    return " " * first + ("█" * min(max(0, round(lasts / cell)), cells - first) or "▏")


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


def _service(span: telemetry_pb2.Span, *, is_brief: bool) -> str:
    name = span.service.removeprefix("kindling-")
    return name if is_brief else f"{name} {span.service_instance}".rstrip()


def _began(span: telemetry_pb2.Span) -> int:
    return span.start_time.ToNanoseconds()


def _ended(span: telemetry_pb2.Span) -> int:
    return span.end_time.ToNanoseconds()

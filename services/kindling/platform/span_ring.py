"""The last spans of this process, and those under way, so that a request can be looked at where no collector runs."""

from collections import deque
from typing import Final

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

NAME_ATTRIBUTES: Final = ("gen_ai.response.id", "kindling.generation.id")
"""Attributes by whose value a trace can be asked for, besides its own id."""
_TRACE_ID_DIGITS = 32


class SpanRing(SpanProcessor):
    """Keeps the last ``capacity`` spans that ended, and as many that did not; a full ring forgets the oldest.

    Spans begin and end on any thread. A ``deque`` or ``dict`` takes one, and is copied, in one step of the interpreter:
    no lock is needed.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._ended: deque[ReadableSpan] = deque(maxlen=capacity)
        self._open: dict[int, ReadableSpan] = {}

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002
        """Keep a span that is under way."""
        self._open[span.get_span_context().span_id] = span
        if len(self._open) > self.capacity:
            self._open.pop(next(iter(self._open)), None)

    def on_end(self, span: ReadableSpan) -> None:
        """Keep a span that is over."""
        if span.context is not None:
            self._open.pop(span.context.span_id, None)
        self._ended.append(span)

    def trace_id_of(self, name: str) -> str:
        """Return the id of the trace that is called so: 32 hexadecimal digits, or what one of its spans has as one of
        ``NAME_ATTRIBUTES``; empty if there is none."""
        if _is_trace_id(name):
            return name.lower()
        for span in reversed(self._all()):
            attributes = span.attributes or {}
            if any(attributes.get(key) == name for key in NAME_ATTRIBUTES) and span.context is not None:
                return f"{span.context.trace_id:032x}"
        return ""

    def of_trace(self, trace_id: str) -> list[ReadableSpan]:
        """Return a trace's spans, those first that ended, in the order in which they did; none for no such trace."""
        wanted = int(trace_id, 16) if _is_trace_id(trace_id) else 0
        return [span for span in self._all() if span.context is not None and span.context.trace_id == wanted]

    def _all(self) -> list[ReadableSpan]:
        return [*self._ended.copy(), *self._open.copy().values()]


def _is_trace_id(name: str) -> bool:
    return len(name) == _TRACE_ID_DIGITS and all(digit in "0123456789abcdefABCDEF" for digit in name)

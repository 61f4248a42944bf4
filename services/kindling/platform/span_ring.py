"""The last spans of this process, so that a request can be looked at where no collector runs."""

from collections import deque
from typing import Final

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

NAME_ATTRIBUTES: Final = ("gen_ai.response.id", "kindling.generation.id")
"""Attributes by whose value a trace can be asked for, besides its own id."""
_TRACE_ID_DIGITS = 32


class SpanRing(SpanProcessor):
    """Keeps the last ``capacity`` spans that ended; a full ring forgets the oldest.

    Spans end on any thread. A ``deque`` takes one, and is copied, in one step of the interpreter: no lock is needed.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._spans: deque[ReadableSpan] = deque(maxlen=capacity)

    def on_end(self, span: ReadableSpan) -> None:
        """Keep a span."""
        self._spans.append(span)

    def trace_id_of(self, name: str) -> str:
        """Return the id of the trace that is called so: 32 hexadecimal digits, or what one of its spans has as one of
        ``NAME_ATTRIBUTES``; empty if there is none."""
        if _is_trace_id(name):
            return name.lower()
        for span in reversed(self._spans.copy()):
            attributes = span.attributes or {}
            if any(attributes.get(key) == name for key in NAME_ATTRIBUTES) and span.context is not None:
                return f"{span.context.trace_id:032x}"
        return ""

    def of_trace(self, trace_id: str) -> list[ReadableSpan]:
        """Return a trace's spans that ended here, in the order in which they did; none for no such trace."""
        wanted = int(trace_id, 16) if _is_trace_id(trace_id) else 0
        return [span for span in self._spans.copy() if span.context is not None and span.context.trace_id == wanted]


def _is_trace_id(name: str) -> bool:
    return len(name) == _TRACE_ID_DIGITS and all(digit in "0123456789abcdefABCDEF" for digit in name)

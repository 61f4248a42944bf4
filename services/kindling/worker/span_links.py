"""Links between a generation's spans and those of its migration, which is a trace of its own."""

from opentelemetry import trace


def link(span: trace.Span, other: trace.Span) -> None:
    """Have ``span`` point at ``other``, if that is recorded anywhere."""
    context = other.get_span_context()
    if context.is_valid and context.trace_flags.sampled:
        span.add_link(context)

"""Structured logs: one JSON object a line on standard error, with the ids of the trace they belong to."""

import logging
import sys
from typing import cast

import structlog
from opentelemetry import trace
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

from kindling.platform.library_logs import LibraryLines
from kindling.platform.log_export import export_line


def configure_logging(service: str, level: str = "INFO") -> None:
    """Make every later log line of this process a JSON object that names ``service``."""
    threshold = logging.getLevelNamesMapping()[level]
    logging.basicConfig(level=logging.WARNING, handlers=[LibraryLines(service)])
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _add_trace_ids,
            # Without the frames' locals: they are long, and some are secrets.
            structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
            export_line,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)


def quiet_logging() -> None:
    """Say nothing below a warning: for programs that talk to people."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))


def get_logger(name: str) -> FilteringBoundLogger:
    """Return a logger whose lines carry ``component=name``."""
    return cast("FilteringBoundLogger", structlog.get_logger(component=name))


def _add_trace_ids(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = f"{context.trace_id:032x}"
        event["span_id"] = f"{context.span_id:016x}"
    return event

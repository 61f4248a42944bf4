"""Log lines as OpenTelemetry log records, with the trace that they belong to."""

from typing import Final

from opentelemetry._logs import LogRecord, SeverityNumber, get_logger_provider
from structlog.typing import EventDict, WrappedLogger

from kindling.platform.library_logs import EXPORTERS

_SEVERITIES: Final = {
    "debug": SeverityNumber.DEBUG,
    "info": SeverityNumber.INFO,
    "warning": SeverityNumber.WARN,
    "error": SeverityNumber.ERROR,
    "critical": SeverityNumber.FATAL,
}
_NOT_ATTRIBUTES: Final = frozenset({"event", "level", "timestamp", "trace_id", "span_id"})


def export_line(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Pass a structlog line on to the process's log exporter, which does nothing where none is configured.

    The SDK adds the current span's ids itself. What its exporters say is not passed on: it would be about itself.
    """
    if str(event.get("component", "")).startswith(EXPORTERS):
        return event
    level = str(event.get("level", "info"))
    attributes = {key: _plain(value) for key, value in event.items() if key not in _NOT_ATTRIBUTES}
    severity = _SEVERITIES.get(level, SeverityNumber.INFO)
    record = LogRecord(
        body=str(event.get("event", "")), severity_number=severity, severity_text=level, attributes=attributes
    )
    get_logger_provider().get_logger("kindling").emit(record)
    return event


def _plain(value: object) -> str | int | float | bool:
    return value if isinstance(value, str | int | float | bool) else str(value)

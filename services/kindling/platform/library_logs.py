"""What libraries say through ``logging``, as lines like ours."""

import logging
import time
from typing import Final

import structlog

EXPORTERS: Final = "opentelemetry."
_EXPORTERS_SECONDS: Final = 60.0


class LibraryLines(logging.Handler):
    """Writes records of ``logging`` as structlog lines that name ``service``, from whatever thread they come.

    OpenTelemetry's exporters say the same about a collector that is away at every attempt, twice a second: each thing
    that they say is written once a minute.
    """

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service
        self._next_at: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        if record.name.startswith(EXPORTERS) and not self._is_due(str(record.msg)):
            return
        logger = structlog.get_logger(component=record.name, service=self._service)
        logger.log(record.levelno, record.getMessage(), exc_info=record.exc_info)

    def _is_due(self, said: str) -> bool:
        now = time.monotonic()
        if now < self._next_at.get(said, now):
            return False
        self._next_at[said] = now + _EXPORTERS_SECONDS
        return True

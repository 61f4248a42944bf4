"""What every benchmark's command begins with, and where it prints."""

import signal
import sys
from collections.abc import Callable

from rich.console import Console

from kindling.platform.logging import configure_logging

_WIDTH_WITHOUT_TERMINAL = 160


def begin() -> Callable[[str], None]:
    """Log warnings only and, ended by whomever, unwind: a run gives back what it has taken. Returns how to say what is
    being done."""
    configure_logging("bench", "WARNING")
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    progress = Console(stderr=True, highlight=False)
    return lambda text: progress.print(f"[dim]{text}[/]")


def report_console() -> Console:
    """Where the report goes: wide enough for its tables where there is no terminal."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_WIDTH_WITHOUT_TERMINAL)

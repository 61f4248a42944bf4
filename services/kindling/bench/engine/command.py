"""What `kindling bench engine` does: measure, print, write."""

import signal
import sys
from pathlib import Path

from rich.console import Console

from kindling.bench.engine.options import EngineOptions
from kindling.bench.engine.report import as_json, print_report
from kindling.bench.engine.run import measure
from kindling.platform.logging import configure_logging

_WIDTH_WITHOUT_TERMINAL = 160


def run(options: EngineOptions, json_path: Path | None) -> None:
    """Measure and report; the JSON is written if a path is given."""
    configure_logging("bench", "WARNING")
    # Ended by whomever, the run removes its model.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    progress = Console(stderr=True, highlight=False)
    results = measure(options, lambda text: progress.print(f"[dim]{text}[/]"))
    console = Console(highlight=False)
    wide = console if console.is_terminal else Console(highlight=False, width=_WIDTH_WITHOUT_TERMINAL)
    print_report(results, options, wide)
    if json_path is not None:
        json_path.write_bytes(as_json(results, options))

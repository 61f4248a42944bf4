"""What `kindling bench load` does: measure, print, write."""

import signal
import sys
from pathlib import Path

from rich.console import Console

from kindling.bench.load.chart import draw
from kindling.bench.load.options import LoadOptions
from kindling.bench.load.report import as_json, print_report
from kindling.bench.load.run import measure
from kindling.platform.logging import configure_logging

_WIDTH_WITHOUT_TERMINAL = 160


def run(options: LoadOptions, json_path: Path | None, png_path: Path | None) -> None:
    """Measure and report; the JSON and the picture are written if a path is given."""
    configure_logging("bench", "WARNING")
    # Ended by whomever, the run gives back huge pages and disk.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    progress = Console(stderr=True, highlight=False)
    results = measure(options, lambda text: progress.print(f"[dim]{text}[/]"))
    console = Console(highlight=False)
    print_report(results, console if console.is_terminal else Console(highlight=False, width=_WIDTH_WITHOUT_TERMINAL))
    if json_path is not None:
        json_path.write_bytes(as_json(results, options))
    if png_path is not None:
        draw(results, png_path)

"""What `kindling bench migrate` does: measure, print, write."""

import signal
import sys
from pathlib import Path

from rich.console import Console

from kindling.bench.migrate.bench_cluster import StartCluster
from kindling.bench.migrate.chart import draw
from kindling.bench.migrate.options import MigrateOptions
from kindling.bench.migrate.report import as_json, print_report
from kindling.bench.migrate.run import measure
from kindling.platform.logging import configure_logging

_WIDTH_WITHOUT_TERMINAL = 160


def run(start_cluster: StartCluster, options: MigrateOptions, json_path: Path | None, png_path: Path | None) -> int:
    """Measure and report; return 1 if a token was lost or repeated or a part failed, else 0."""
    configure_logging("bench", "WARNING")
    # Ended by whomever, the run stops its cluster and removes its files.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    progress = Console(stderr=True, highlight=False)
    results = measure(start_cluster, options, lambda text: progress.print(f"[dim]{text}[/]"))
    console = Console(highlight=False)
    wide = console if console.is_terminal else Console(highlight=False, width=_WIDTH_WITHOUT_TERMINAL)
    print_report(results, options, wide)
    if json_path is not None:
        json_path.write_bytes(as_json(results, options))
    if png_path is not None:
        draw(results, png_path)
    return 1 if results.mismatches or results.failures else 0

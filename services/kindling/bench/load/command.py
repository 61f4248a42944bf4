"""What `kindling bench load` does: measure, print, write."""

from pathlib import Path

from kindling.bench.console import begin, report_console
from kindling.bench.load.chart import draw
from kindling.bench.load.options import LoadOptions
from kindling.bench.load.report import as_json, print_report
from kindling.bench.load.run import measure


def run(options: LoadOptions, json_path: Path | None, png_path: Path | None) -> None:
    """Measure and report; the JSON and the picture are written if a path is given."""
    results = measure(options, begin())
    print_report(results, report_console())
    if json_path is not None:
        json_path.write_bytes(as_json(results, options))
    if png_path is not None:
        draw(results, png_path)

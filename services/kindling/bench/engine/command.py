"""What `kindling bench engine` does: measure, print, write."""

from pathlib import Path

from kindling.bench.console import begin, report_console
from kindling.bench.engine.options import EngineOptions
from kindling.bench.engine.report import as_json, print_report
from kindling.bench.engine.run import measure


def run(options: EngineOptions, json_path: Path | None) -> None:
    """Measure and report; the JSON is written if a path is given."""
    results = measure(options, begin())
    print_report(results, options, report_console())
    if json_path is not None:
        json_path.write_bytes(as_json(results, options))

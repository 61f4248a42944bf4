"""What `kindling bench place` does: measure, print, write."""

from pathlib import Path

from kindling.bench.console import begin, report_console
from kindling.bench.place.options import PlaceOptions
from kindling.bench.place.report import as_json, print_report
from kindling.bench.place.run import measure


def run(options: PlaceOptions, json_path: Path | None) -> None:
    """Measure and report; the JSON is written if a path is given."""
    samples = measure(options, begin())
    print_report(samples, report_console())
    if json_path is not None:
        json_path.write_bytes(as_json(samples, options))

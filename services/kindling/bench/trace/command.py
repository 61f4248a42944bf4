"""What `kindling bench trace` does: measure, print, write."""

from pathlib import Path

from kindling.bench.console import begin, report_console
from kindling.bench.trace.options import TraceOptions
from kindling.bench.trace.report import as_json, print_report
from kindling.bench.trace.run import measure
from kindling.bench.trace.worker import StartCluster


def run(start_cluster: StartCluster, options: TraceOptions, json_path: Path | None) -> None:
    """Measure and report; the JSON is written if a path is given."""
    pairs = measure(start_cluster, options, begin())
    print_report(pairs, options, report_console())
    if json_path is not None:
        json_path.write_bytes(as_json(pairs, options))

"""What `kindling bench predict` does: measure, print, write."""

from pathlib import Path

from kindling.bench.console import begin, report_console
from kindling.bench.predict.bench_cluster import StartCluster
from kindling.bench.predict.options import PredictOptions
from kindling.bench.predict.report import as_json, print_report
from kindling.bench.predict.run import measure


def run(start_cluster: StartCluster, options: PredictOptions, json_path: Path | None) -> None:
    """Measure and report; the JSON is written if a path is given."""
    results = measure(start_cluster, options, begin())
    print_report(results, report_console())
    if json_path is not None:
        json_path.write_bytes(as_json(results, options))

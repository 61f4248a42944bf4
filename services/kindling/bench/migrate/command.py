"""What `kindling bench migrate` does: measure, print, write."""

from pathlib import Path

from kindling.bench.console import begin, report_console
from kindling.bench.migrate.bench_cluster import StartCluster
from kindling.bench.migrate.chart import draw
from kindling.bench.migrate.options import MigrateOptions
from kindling.bench.migrate.report import as_json, print_report
from kindling.bench.migrate.run import measure


def run(start_cluster: StartCluster, options: MigrateOptions, json_path: Path | None, png_path: Path | None) -> int:
    """Measure and report; return 1 if a token was lost or repeated or a part failed, else 0."""
    results = measure(start_cluster, options, begin())
    print_report(results, options, report_console())
    if json_path is not None:
        json_path.write_bytes(as_json(results, options))
    if png_path is not None:
        draw(results, png_path)
    return 1 if results.mismatches or results.failures else 0

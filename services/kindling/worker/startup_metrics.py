"""What starts of instances are made of, as metrics."""

from opentelemetry import metrics

from kindling.platform import buckets
from kindling.worker.domain.instance import LoadReport

_meter = metrics.get_meter(__name__)
_stage = _meter.create_histogram(
    "kindling.instance.startup.stage.duration",
    unit="s",
    description="Seconds of an instance's start: load (all weights), init (building the model), total.",
    explicit_bucket_boundaries_advisory=buckets.SECONDS,
)
_read = _meter.create_counter(
    "kindling.instance.startup.read", unit="By", description="Bytes that starts read, by tier."
)


def record_startup(report: LoadReport) -> None:
    """Count a start that is complete; stages overlap, and their sum is more than the total."""
    for stage, seconds in (
        ("load", report.load_seconds),
        ("init", report.init_seconds),
        ("total", report.total_seconds),
    ):
        _stage.record(seconds, {"stage": stage})
    for flow in report.traffic:
        _read.add(flow.bytes_read, {"from": flow.tier.name})

"""How well estimates come true, as a metric."""

from opentelemetry import metrics
from opentelemetry.util.types import Attributes

from kindling.platform import buckets

_error = metrics.get_meter(__name__).create_histogram(
    "kindling.estimate.error",
    unit="1",
    description="Estimated over actual seconds, less one, without its sign",
    explicit_bucket_boundaries_advisory=buckets.SHARES,
)
_seconds = metrics.get_meter(__name__).create_histogram(
    "kindling.estimate.duration",
    unit="s",
    description="Seconds as estimated, and as they turned out",
    explicit_bucket_boundaries_advisory=buckets.SECONDS,
)


def record_estimate_error(estimated_seconds: float, actual_seconds: float, attributes: Attributes) -> None:
    """Compare an estimate with its outcome; one that took no time tells nothing."""
    for side, seconds in (("estimated", estimated_seconds), ("actual", actual_seconds)):
        _seconds.record(seconds, {**(attributes or {}), "side": side})
    if actual_seconds > 0:
        _error.record(abs(estimated_seconds / actual_seconds - 1.0), attributes)

"""What becomes of prefetched chunks, as metrics."""

from functools import partial

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Meter, Observation

from kindling.storage.domain.prefetch_tally import PrefetchTally

_METRICS = (
    ("kindling.prefetch.bytes", "By", "Bytes brought to DRAM ahead of calls.", "prefetched_bytes"),
    ("kindling.prefetch.hits", "{hit}", "Openings that found some of them.", "hits"),
    ("kindling.prefetch.hit_bytes", "By", "Bytes that openings found.", "hit_bytes"),
    ("kindling.prefetch.misses", "{miss}", "Checkpoints whose prefetched bytes were all dropped unused.", "misses"),
    ("kindling.prefetch.wasted_bytes", "By", "Bytes that were dropped unused.", "wasted_bytes"),
)


def watch_prefetches(tally: PrefetchTally, meter: Meter | None = None) -> None:
    """Have the process's metrics, or those of ``meter``, say what ``tally`` says."""
    meter = meter or metrics.get_meter(__name__)
    for name, unit, description, field in _METRICS:
        meter.create_observable_counter(name, [partial(_look, tally, field)], unit, description)


def _look(tally: PrefetchTally, field: str, _options: CallbackOptions) -> list[Observation]:
    return [Observation(getattr(tally, field))]

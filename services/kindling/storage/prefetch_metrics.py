"""What becomes of prefetched chunks, as metrics."""

from collections.abc import Mapping
from functools import partial

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Meter, Observation

from kindling.storage.domain.prefetch_tally import PrefetchTally
from kindling.storage.domain.tier import Tier

_METRICS = (
    ("kindling.prefetch.bytes", "By", "Bytes brought to DRAM or SSD ahead of calls.", "prefetched_bytes"),
    ("kindling.prefetch.hits", "{hit}", "Openings that found some of them.", "hits"),
    ("kindling.prefetch.hit_bytes", "By", "Bytes that openings found.", "hit_bytes"),
    ("kindling.prefetch.misses", "{miss}", "Checkpoints whose prefetched bytes were all dropped unused.", "misses"),
    ("kindling.prefetch.wasted_bytes", "By", "Bytes that were dropped unused.", "wasted_bytes"),
)


def watch_prefetches(tallies: Mapping[Tier, PrefetchTally], meter: Meter | None = None) -> None:
    """Have the process's metrics, or those of ``meter``, say what the tallies say, by the tier that was brought to."""
    meter = meter or metrics.get_meter(__name__)
    for name, unit, description, field in _METRICS:
        meter.create_observable_counter(name, [partial(_look, tallies, field)], unit, description)


def _look(tallies: Mapping[Tier, PrefetchTally], field: str, _options: CallbackOptions) -> list[Observation]:
    return [Observation(getattr(tally, field), {"to": tier.name}) for tier, tally in tallies.items()]

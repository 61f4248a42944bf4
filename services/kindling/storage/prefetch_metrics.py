"""What becomes of prefetched chunks, as metrics."""

from collections.abc import Callable, Iterable

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from kindling.storage.domain.prefetch_tally import PrefetchTally

meter = metrics.get_meter(__name__)
Callback = Callable[[CallbackOptions], Iterable[Observation]]


def watch_prefetches(tally: PrefetchTally) -> None:
    """Have the metrics say what ``tally`` says; a process has one."""
    _count("kindling.prefetch.bytes", "By", "Bytes prefetched.", lambda _: [Observation(tally.prefetched_bytes)])
    _count("kindling.prefetch.hits", "{hit}", "Openings that found some.", lambda _: [Observation(tally.hits)])
    _count("kindling.prefetch.hit_bytes", "By", "Bytes used.", lambda _: [Observation(tally.hit_bytes)])
    _count("kindling.prefetch.misses", "{miss}", "Prefetches all in vain.", lambda _: [Observation(tally.misses)])
    _count("kindling.prefetch.wasted_bytes", "By", "Bytes unused.", lambda _: [Observation(tally.wasted_bytes)])


def _count(name: str, unit: str, description: str, look: Callback) -> None:
    meter.create_observable_counter(name, [look], unit, description)

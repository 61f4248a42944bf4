"""The metrics say what the tally says, whenever they are read."""

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from kindling.storage.domain.prefetch_tally import PrefetchTally
from kindling.storage.prefetch_metrics import watch_prefetches


def read(reader: InMemoryMetricReader) -> dict[str, float]:
    data = reader.get_metrics_data()
    assert data is not None
    metrics = data.resource_metrics[0].scope_metrics[0].metrics
    return {metric.name: metric.data.data_points[0].value for metric in metrics}  # type: ignore[union-attr]


def test_metrics_follow_the_tally() -> None:
    reader, tally = InMemoryMetricReader(), PrefetchTally()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    watch_prefetches(tally, provider.get_meter("test"))
    assert set(read(reader).values()) == {0}
    tally.prefetched_bytes, tally.hits, tally.hit_bytes, tally.misses, tally.wasted_bytes = 9, 3, 5, 1, 4
    assert read(reader) == {
        "kindling.prefetch.bytes": 9,
        "kindling.prefetch.hits": 3,
        "kindling.prefetch.hit_bytes": 5,
        "kindling.prefetch.misses": 1,
        "kindling.prefetch.wasted_bytes": 4,
    }
    provider.shutdown()

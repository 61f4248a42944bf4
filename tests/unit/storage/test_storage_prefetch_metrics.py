"""The metrics say what the tallies say, tier by tier, whenever they are read."""

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from kindling.storage.domain.prefetch_tally import PrefetchTally
from kindling.storage.domain.tier import Tier
from kindling.storage.prefetch_metrics import watch_prefetches


def read(reader: InMemoryMetricReader) -> dict[tuple[str, str], float]:
    data = reader.get_metrics_data()
    assert data is not None
    metrics = data.resource_metrics[0].scope_metrics[0].metrics
    return {
        (metric.name, str(point.attributes["to"])): point.value  # type: ignore[index, union-attr]
        for metric in metrics
        for point in metric.data.data_points
    }


def test_metrics_follow_the_tallies() -> None:
    reader, tallies = InMemoryMetricReader(), {Tier.DRAM: PrefetchTally(), Tier.SSD: PrefetchTally()}
    provider = MeterProvider([reader], shutdown_on_exit=False)
    watch_prefetches(tallies, provider.get_meter("test"))
    assert set(read(reader).values()) == {0}
    tallies[Tier.DRAM] = PrefetchTally(9, 3, 5, 1, 4)
    tallies[Tier.SSD].hits = 7
    names = ("bytes", "hits", "hit_bytes", "misses", "wasted_bytes")
    seen = read(reader)
    assert [seen[f"kindling.prefetch.{name}", "DRAM"] for name in names] == [9, 3, 5, 1, 4]
    assert [seen[f"kindling.prefetch.{name}", "SSD"] for name in names] == [0, 7, 0, 0, 0]
    provider.shutdown()

"""What was measured: tokens per second by way and load, and why something was not measured."""

import statistics
from dataclasses import dataclass, field

from kindling.bench.engine.ways import PEERS, Way


@dataclass(slots=True)
class Results:
    """Filled while the benchmark runs."""

    rates: dict[tuple[Way, int], list[float]] = field(default_factory=dict)
    failures: dict[Way, str] = field(default_factory=dict)

    def add(self, way: Way, load: int, tokens_per_second: float) -> None:
        """Take one measurement."""
        self.rates.setdefault((way, load), []).append(tokens_per_second)

    def fail(self, way: Way, why: str) -> None:
        """Note that a way could not be measured; what was measured of it stays."""
        self.failures.setdefault(way, why)

    def rate(self, way: Way, load: int) -> float | None:
        """The median over all rounds; None if it was not measured."""
        samples = self.rates.get((way, load))
        return statistics.median(samples) if samples else None

    def best_peer(self, load: int) -> float | None:
        """The highest median of transformers' own ways."""
        rates = [self.rate(way, load) for way in PEERS]
        return max((rate for rate in rates if rate is not None), default=None)

    def noise(self) -> tuple[float, float]:
        """Median and worst of the rows' spreads; a spread is (max - min) / median."""
        several = [samples for samples in self.rates.values() if len(samples) > 1]
        spreads = [(max(samples) - min(samples)) / statistics.median(samples) for samples in several]
        return (statistics.median(spreads), max(spreads)) if spreads else (0.0, 0.0)

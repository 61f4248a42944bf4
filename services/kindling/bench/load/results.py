"""What was measured: seconds by row, figures that are no times, and why something was not measured."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from kindling.bench.load.rows import ROWS, Kind, Row, State


@dataclass(slots=True)
class Results:
    """Filled while the benchmark runs. ``bytes_by_row`` is what one measurement of a row moved."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    bytes_by_row: dict[str, int] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, key: str, seconds: float, size_bytes: int) -> None:
        """Take one measurement of the row ``key``."""
        self.seconds.setdefault(key, []).append(seconds)
        self.bytes_by_row[key] = size_bytes

    def fail(self, key: str, why: str) -> None:
        """Note that ``key`` could not be measured; what was measured of it stays."""
        self.failures.setdefault(key, why)

    def note(self, text: str) -> None:
        """Say something once that readers of the figures must know."""
        if text not in self.notes:
            self.notes.append(text)

    def median_seconds(self, key: str) -> float | None:
        """The median of a row; None if it was not measured."""
        samples = self.seconds.get(key)
        return statistics.median(samples) if samples else None

    def rate(self, key: str) -> float | None:
        """Bytes per second at the median; None if the row was not measured."""
        seconds = self.median_seconds(key)
        return self.bytes_by_row[key] / seconds if seconds else None

    def best_rate(self, kind: Kind, state: State) -> float | None:
        """The highest median rate of a kind of rows."""
        rates = [self.rate(row.key) for row in rows_of(kind, state)]
        return max((rate for rate in rates if rate is not None), default=None)

    def noise(self) -> tuple[float, float]:
        """Median and worst of the rows' spreads; a spread is (max - min) / median."""
        spreads = [_spread(samples) for samples in self.seconds.values() if len(samples) > 1]
        return (statistics.median(spreads), max(spreads)) if spreads else (0.0, 0.0)


def rows_of(kind: Kind, state: State) -> list[Row]:
    """The rows of one kind and state."""
    return [row for row in ROWS if row.kind is kind and row.state is state]


def _spread(samples: Sequence[float]) -> float:
    return (max(samples) - min(samples)) / statistics.median(samples)

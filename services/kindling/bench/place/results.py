"""What was measured: seconds of every event by kind, for each size of the cluster."""

import enum
import statistics
from dataclasses import dataclass, field

from kindling.bench.place.options import Size


class Kind(enum.StrEnum):
    """What an event came to. The first are decisions."""

    WARM = "warm grant"
    START = "start in a free slot"
    EVICT = "eviction, for want of a free slot"
    MOVE = "a busy instance moves, for want of a near slot"
    START_AFTER_EVICTION = "start in the slot of one evicted"
    WAIT = "nothing to do but to wait"
    READY = "a start is over, its requests are granted"
    RELEASE = "a generation is over"
    REPORT = "a worker's report"
    RESIDENCY = "news of residency"
    STOPPED = "an instance is gone"

    @property
    def is_decision(self) -> bool:
        """Whether something was decided for a request."""
        return self not in (Kind.RELEASE, Kind.REPORT, Kind.RESIDENCY, Kind.STOPPED)


@dataclass(slots=True)
class Sample:
    """Everything that was measured of one cluster."""

    size: Size
    seconds: dict[Kind, list[float]] = field(default_factory=dict)
    memory_bytes: int = 0

    def add(self, kind: Kind, seconds: float) -> None:
        """Take one event in."""
        self.seconds.setdefault(kind, []).append(seconds)

    def of(self, *kinds: Kind) -> list[float]:
        """Seconds of all events of some kinds, the least first."""
        return sorted(second for kind in kinds for second in self.seconds.get(kind, ()))

    @property
    def decisions(self) -> list[float]:
        """Seconds of every decision, the least first."""
        return self.of(*(kind for kind in Kind if kind.is_decision))

    @property
    def decisions_per_second(self) -> float:
        """Decisions over the time of all events, those that decide nothing included."""
        return len(self.decisions) / sum(self.of(*Kind))

    def median(self, kind: Kind) -> float:
        """Seconds of an event of some kind, in the median."""
        return statistics.median(self.seconds[kind])


def percentile(ordered: list[float], share: float) -> float:
    """The least that at least such a share of the values, in order and not empty, does not exceed."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

"""How many bytes came from which tier, how long that took, and what it says about the tier's bandwidth."""

from collections.abc import Iterable
from dataclasses import dataclass

from kindling.storage.domain.tier import Tier, TierTraffic

# Small reads measure latency, not bandwidth.
MIN_SAMPLE_BYTES = 1 << 20
_WEIGHT_OF_NEW = 0.3


@dataclass(slots=True)
class _Flow:
    size_bytes: int = 0
    seconds: float = 0.0
    under_way: int = 0
    busy_since: float = 0.0


class TrafficMeter:
    """Meters one load; reads from a tier may overlap, seconds in which several ran count once."""

    def __init__(self) -> None:
        self._flows: dict[Tier, _Flow] = {}

    def begin(self, tier: Tier, now: float) -> None:
        """Note that a read from ``tier`` begins."""
        flow = self._flows.setdefault(tier, _Flow())
        if flow.under_way == 0:
            flow.busy_since = now
        flow.under_way += 1

    def end(self, tier: Tier, size_bytes: int, now: float) -> None:
        """Note that a read ends that brought ``size_bytes``; 0 for one that failed."""
        flow = self._flows[tier]
        flow.under_way -= 1
        flow.size_bytes += size_bytes
        if flow.under_way == 0:
            flow.seconds += now - flow.busy_since

    def add(self, tier: Tier, size_bytes: int) -> None:
        """Note bytes that were there already and took no time."""
        self._flows.setdefault(tier, _Flow()).size_bytes += size_bytes

    def totals(self) -> tuple[TierTraffic, ...]:
        """What came from each tier, fastest tier first."""
        flows = sorted(self._flows.items())
        return tuple(TierTraffic(tier, flow.size_bytes, flow.seconds) for tier, flow in flows if flow.size_bytes)


class BandwidthBook:
    """The measured bandwidth out of each tier, learned from every load; recent loads weigh more."""

    def __init__(self) -> None:
        self._bytes_per_second: dict[Tier, float] = {}

    def learn(self, traffic: Iterable[TierTraffic]) -> None:
        """Take a finished load's traffic into account."""
        for flow in traffic:
            if flow.seconds > 0 and flow.size_bytes >= MIN_SAMPLE_BYTES:
                sample = flow.size_bytes / flow.seconds
                known = self._bytes_per_second.get(flow.tier, sample)
                self._bytes_per_second[flow.tier] = known + _WEIGHT_OF_NEW * (sample - known)

    def bytes_per_second(self, tier: Tier) -> float:
        """Bytes per second out of ``tier``; 0 before the first measurement."""
        return self._bytes_per_second.get(tier, 0.0)

"""What prefetching has brought, and what of it was of use."""

from dataclasses import dataclass


@dataclass(slots=True)
class PrefetchTally:
    """Bytes brought to DRAM ahead of calls, loads that found some of them (hits), and how many bytes these found."""

    prefetched_bytes: int = 0
    hits: int = 0
    hit_bytes: int = 0

    @property
    def wasted_bytes(self) -> int:
        """Bytes that no load has found: dropped before, or there for nothing to the end."""
        return self.prefetched_bytes - self.hit_bytes

    def add(self, other: "PrefetchTally") -> None:
        """Count another's in."""
        self.prefetched_bytes += other.prefetched_bytes
        self.hits += other.hits
        self.hit_bytes += other.hit_bytes

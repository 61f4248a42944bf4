"""What becomes of prefetched chunks."""

from dataclasses import dataclass


@dataclass(slots=True)
class PrefetchTally:
    """Bytes brought by prefetching, and how they ended: used by an opening (a hit), or dropped unused.

    A miss is a checkpoint whose prefetched chunks were all dropped before anybody opened it.
    """

    prefetched_bytes: int = 0
    hits: int = 0
    hit_bytes: int = 0
    misses: int = 0
    wasted_bytes: int = 0

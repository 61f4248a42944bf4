"""What came of a prefetch."""

import enum
from dataclasses import dataclass


class PrefetchOutcome(enum.Enum):
    """How a prefetch ended."""

    DONE = "done"
    YIELDED = "yielded"
    NO_ROOM = "no room"
    NO_COPY = "no copy"


@dataclass(slots=True)
class Prefetched:
    """How a prefetch ended, and how many bytes it brought."""

    outcome: PrefetchOutcome = PrefetchOutcome.YIELDED
    size_bytes: int = 0

"""The storage tiers and what can be said of one."""

import enum
from dataclasses import dataclass


class Tier(enum.IntEnum):
    """Where bytes of a checkpoint can be; numbers are those of the wire, smaller is faster."""

    GPU = 1
    DRAM = 2
    SSD = 3
    REMOTE = 4


@dataclass(frozen=True, slots=True)
class TierResidency:
    """How much of a checkpoint a tier holds, counted from the head; ``verified``: all of it was read and was right."""

    tier: Tier
    chunks: int
    size_bytes: int
    verified: bool = False


@dataclass(frozen=True, slots=True)
class TierTraffic:
    """Bytes moved from one tier, and the seconds during which at least one read from it was under way."""

    tier: Tier
    size_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class TierSnapshot:
    """A tier of this node: its size, use and speed, and what is in it. A capacity of 0: no bound of its own."""

    tier: Tier
    capacity_bytes: int
    used_bytes: int
    pinned_bytes: int
    bytes_per_second: float
    backing: str
    checkpoints: tuple[tuple[str, TierResidency], ...]

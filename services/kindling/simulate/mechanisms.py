"""What Kindling has beyond choosing a place well, each of which can be switched on by itself."""

import enum
from typing import Final


class Mechanism(enum.StrEnum):
    """Something that the simulated cluster does only if it is asked to."""

    MIGRATION = "migration"  # what generates moves where its device is needed more; always where a node is drained
    CONSOLIDATION = "consolidation"  # what several instances of a model generate goes on in fewer, to make room
    PROGRESSIVE_START = "progressive-start"  # generations begin once the model is built, layers wait for their weights
    PARTIAL_RESIDENCY = "partial-residency"  # DRAM drops chunks from the tails of checkpoints, not whole ones
    PARKING = "parking"  # the weights of what has stopped stay in the device's memory until that is needed
    PREFETCH = (
        "prefetch"  # what is likely to be called soon is brought to SSD, and its head to DRAM, while nothing loads
    )


ALL_MECHANISMS: Final = frozenset(Mechanism)
CHUNK_BYTES: Final = 32 << 20
PARKED_SECONDS: Final = 0.02
"""Assumed time to start what is parked; as long as the scheduler assumes before it has seen it."""

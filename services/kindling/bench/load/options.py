"""What one run of the benchmark is to do."""

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MIB: Final = 1 << 20
CHUNK_BYTES: Final = 32 * MIB


class Part(enum.StrEnum):
    """A part of the benchmark that can be asked for alone."""

    OURS = "ours"
    FRESH = "fresh"
    REMOTE = "remote"
    PEERS = "peers"
    FLOORS = "floors"
    MEMORY = "memory"
    FIRST_TOKEN = "first-token"  # noqa: S105 - no secret


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """A checkpoint of ``size_bytes`` is made in ``directory`` and loaded in every way, ``rounds`` times in turns."""

    size_bytes: int
    rounds: int
    directory: Path
    parts: frozenset[Part] = frozenset(Part)
    keep: bool = False

    @property
    def half_bytes(self) -> int:
        """Size of the checkpoint that pushes half of the first one out of DRAM."""
        return self.size_bytes // 2

    @property
    def eighth_bytes(self) -> int:
        """Size of the small checkpoint that ``dram_hit_growth`` compares with."""
        return self.size_bytes // 8

    @property
    def pool_bytes(self) -> int:
        """Room for the first checkpoint and the small one, each with its header."""
        chunks = -(-self.size_bytes // CHUNK_BYTES) + -(-self.eighth_bytes // CHUNK_BYTES) + 4
        return chunks * CHUNK_BYTES

"""What reading a checkpoint's chunks showed."""

from dataclasses import dataclass

from kindling.storage.domain.tier import Tier


@dataclass(frozen=True, slots=True)
class BadChunk:
    """A chunk that is not as the manifest says; ``problem`` names the file."""

    chunk: int
    problem: str
    repaired: bool


@dataclass(frozen=True, slots=True)
class TierVerdict:
    """What was read at one tier, and what was wrong with it."""

    tier: Tier
    checked_chunks: int
    bad_chunks: tuple[BadChunk, ...]

    @property
    def is_intact(self) -> bool:
        """Whether everything that was read is as it should be now."""
        return all(bad.repaired for bad in self.bad_chunks)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found at the tiers that have some of the checkpoint, fastest first.

    ``quarantined``: a chunk of the SSD copy is bad at every tier, and the copy was put aside.
    """

    digest: str
    tiers: tuple[TierVerdict, ...]
    quarantined: bool

    @property
    def is_intact(self) -> bool:
        """Whether everything that was read, at any tier, is as it should be now."""
        return not self.quarantined and all(tier.is_intact for tier in self.tiers)

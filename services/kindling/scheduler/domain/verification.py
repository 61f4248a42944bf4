"""What checking a checkpoint showed, node by node."""

from dataclasses import dataclass

from kindling.scheduler.domain.values import Tier


@dataclass(frozen=True, slots=True)
class BadChunk:
    """A chunk that is not as the manifest says; ``problem`` names the file."""

    chunk: int
    problem: str
    repaired: bool


@dataclass(frozen=True, slots=True)
class TierVerification:
    """What was read at a tier, and what was wrong with it."""

    tier: Tier
    checked_chunks: int
    bad_chunks: tuple[BadChunk, ...] = ()


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a node found. ``quarantined``: its SSD copy was bad beyond repair and was put aside."""

    digest: str
    tiers: tuple[TierVerification, ...] = ()
    quarantined: bool = False

    @property
    def is_intact(self) -> bool:
        """Whether everything that was read is as it should be now."""
        return not self.quarantined and all(bad.repaired for tier in self.tiers for bad in tier.bad_chunks)


@dataclass(frozen=True, slots=True)
class VerifyProgress:
    """Bytes that a node has checked, of how many."""

    node_id: str
    done_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class NodeVerified:
    """A node's answer: its report, or why there is none."""

    node_id: str
    report: VerifyReport | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ModelVerified:
    """Every node has answered."""

    digest: str
    is_intact: bool

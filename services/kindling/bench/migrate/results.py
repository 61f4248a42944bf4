"""What was measured, sample by sample, and why something was not."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from kindling.bench.migrate.stream import Answer


@dataclass(frozen=True, slots=True)
class Migrated:
    """One generation's migration, as the source's worker tells of it."""

    prompt_tokens: int
    position: int
    round_tokens: tuple[int, ...]
    sent_bytes: int
    kv_bytes: int
    seconds: float
    handover_seconds: float

    @property
    def bytes_over_kv(self) -> float:
        """Bytes sent over what the KV cache held at the handover."""
        return self.sent_bytes / self.kv_bytes


@dataclass(frozen=True, slots=True)
class Single:
    """A stream that moved alone: what its worker tells, and the pause and the median gap that its client saw."""

    migrated: Migrated
    pause_seconds: float
    median_gap_seconds: float


@dataclass(frozen=True, slots=True)
class Failover:
    """A stream whose worker was killed: the gap until its next token, and what computing its tokens anew takes."""

    gap_seconds: float
    prefill_seconds: float

    @property
    def detection_seconds(self) -> float:
        """The gap less the computing."""
        return self.gap_seconds - self.prefill_seconds


@dataclass(frozen=True, slots=True)
class Divergence:
    """A generation that was computed anew: how many tokens after that are those of the undisturbed run before the first
    that differs; None if none does."""

    dtype: str
    greedy: bool
    same_tokens: int | None


@dataclass(frozen=True, slots=True)
class Mismatch:
    """An answer that differs from its undisturbed run in so many positions, from ``first`` on."""

    part: str
    first: int
    positions: int


@dataclass(slots=True)
class Results:
    """Filled while the benchmark runs. Gaps and pauses are seconds; ``slowdowns`` and ``busy_slowdowns`` are gaps over
    the median of their stream before: during rounds, and while the other worker computes something else."""

    singles: list[Single] = field(default_factory=list)
    load_migrated: list[Migrated] = field(default_factory=list)
    load_pauses: list[float] = field(default_factory=list)
    load_gaps: list[float] = field(default_factory=list)
    slowdowns: list[float] = field(default_factory=list)
    busy_slowdowns: list[float] = field(default_factory=list)
    failovers: list[Failover] = field(default_factory=list)
    divergences: list[Divergence] = field(default_factory=list)
    memory_before: dict[str, int] = field(default_factory=dict)
    memory_after: dict[str, int] = field(default_factory=dict)
    compared_tokens: int = 0
    mismatches: list[Mismatch] = field(default_factory=list)
    timeline: Answer | None = None
    failures: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def compare(self, part: str, disturbed: Answer, undisturbed: Answer) -> None:
        """Compare an answer with its undisturbed run, which is as long."""
        mismatch = find_mismatch(part, disturbed.token_ids, undisturbed.token_ids)
        self.compared_tokens += len(undisturbed.token_ids)
        if mismatch is not None:
            self.mismatches.append(mismatch)

    def fail(self, part: str, why: str) -> None:
        """Note that a part could not be measured to its end."""
        self.failures[part] = why


def find_mismatch(part: str, found: Sequence[int], expected: Sequence[int]) -> Mismatch | None:
    """Return how two answers differ; None if they do not."""
    longest = max(len(found), len(expected))
    different = [index for index in range(longest) if found[index : index + 1] != expected[index : index + 1]]
    return Mismatch(part, different[0], len(different)) if different else None

"""What goes from the worker that a generation leaves to the one that it goes to, and what becomes of it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Round:
    """Tokens emitted since the last message; ``position`` is that of the first, or the next if there are none."""

    position: int
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Handover:
    """The last tokens that the source emitted: the generation goes on with the target."""

    position: int
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Abandon:
    """The generation is not to be moved any more."""


@dataclass(frozen=True, slots=True)
class TakenOver:
    """The target's word that the generation goes on there."""


@dataclass(frozen=True, slots=True)
class Moved:
    """A generation was handed over at ``position``.

    ``round_tokens`` counts the tokens sent in each round, and at the handover at last. ``handover_seconds`` is the time
    from the generation's last step at the source to the target's word that it goes on there.
    """

    generation_id: str
    position: int
    round_tokens: tuple[int, ...]
    sent_bytes: int
    seconds: float
    handover_seconds: float


@dataclass(frozen=True, slots=True)
class Stayed:
    """A generation could not be moved and goes on where it was."""

    generation_id: str
    reason: str
    message: str


Outcome = Moved | Stayed


@dataclass(frozen=True, slots=True)
class MigrationLimits:
    """When to hand over, and how long to wait for the target.

    A gap of so many tokens is small enough. Rounds are bounded by silence: so long no generation of the migration may
    be caught up. The first round may be silent for longer than others: it is the whole prompt. The handover is bounded
    as a whole, since its generation is held meanwhile.
    """

    gap_tokens: int = 4
    begin_seconds: float = 60.0
    round_seconds: float = 10.0
    handover_seconds: float = 2.0

"""What happens to a request on its way to an answer: one small value per event."""

import enum
from dataclasses import dataclass


class Tier(enum.Enum):
    """Where the bytes of a checkpoint are; the numbers are those of the wire."""

    UNKNOWN = 0
    GPU = 1
    DRAM = 2
    SSD = 3
    REMOTE = 4


class StartKind(enum.Enum):
    """How an instance came to serve a request; the numbers are those of the wire."""

    UNKNOWN = 0
    WARM = 1
    COLD = 2


class FinishReason(enum.Enum):
    """Why a choice ended; the values are OpenAI's words."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Queued:
    """The request waits for room behind ``ahead`` others of its model."""

    ahead: int


@dataclass(frozen=True, slots=True)
class Starting:
    """An instance is being started for the request."""

    instance_id: str
    node_id: str
    loaded_bytes: int
    total_bytes: int
    tier: Tier
    estimated_seconds: float


@dataclass(frozen=True, slots=True)
class Place:
    """Where a generation can run: an instance, and the ``host:port`` of its worker."""

    instance_id: str
    worker_address: str


@dataclass(frozen=True, slots=True)
class Granted:
    """A place to run the generation."""

    place: Place
    start: StartKind


Waiting = Queued | Starting


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Natural log-probability of the token chosen, and (token id, log-probability) of the likeliest ones."""

    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Tokens in order from ``position``, counted from the end of the prompt. ``logprobs`` is empty or as long."""

    position: int
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprobs, ...] = ()


@dataclass(frozen=True, slots=True)
class Alive:
    """The worker has no tokens to send yet, but gets on."""


@dataclass(frozen=True, slots=True)
class Migrated:
    """The worker has handed the generation over to ``target``, which goes on with it."""

    target: Place


@dataclass(frozen=True, slots=True)
class Finished:
    """The worker ended the generation."""

    reason: FinishReason


class MoveKind(enum.Enum):
    """Why a generation goes on in another place; the numbers are those of the wire."""

    MIGRATED = 1
    RESUMED = 2
    HEDGED = 3


@dataclass(frozen=True, slots=True)
class Moved:
    """The generation goes on in ``target``; ``position`` is that of its next token."""

    kind: MoveKind
    source: Place
    target: Place
    position: int


# What happens to a generation.
Step = Waiting | Granted | Alive | TokenBatch | Moved | Finished


@dataclass(frozen=True, slots=True)
class Prepared:
    """The prompts are tokens now, one tuple each; nothing has been asked of the cluster yet."""

    prompts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class NamedLogprob:
    """A token, the bytes it stands for, and its natural log-probability."""

    token_id: int
    token_bytes: bytes
    logprob: float

    @property
    def text(self) -> str:
        """The token as text; bytes that are no whole character are shown as U+FFFD."""
        return self.token_bytes.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class ChosenLogprob:
    """The token chosen at one position and the likeliest ones there, likeliest first."""

    chosen: NamedLogprob
    top: tuple[NamedLogprob, ...]


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of choice ``index``: whole characters, and the tokens received since the last piece."""

    index: int
    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[ChosenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class ChoiceMoved:
    """Choice ``index`` goes on in another place."""

    index: int
    move: Moved


@dataclass(frozen=True, slots=True)
class ChoiceEnded:
    """Choice ``index`` is complete."""

    index: int
    reason: FinishReason


@dataclass(frozen=True, slots=True)
class Completed:
    """Every choice is complete. ``first_token_seconds`` counts from the request's arrival."""

    prompt_tokens: int
    completion_tokens: int
    first_token_seconds: float
    start: StartKind


Event = Prepared | Waiting | Delta | ChoiceMoved | ChoiceEnded | Completed

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
class Granted:
    """A place to run the generation."""

    instance_id: str
    worker_address: str
    node_id: str
    start: StartKind
    tier: Tier


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
class Finished:
    """The worker ended the generation."""

    reason: FinishReason


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


Event = Prepared | Waiting | Delta | ChoiceEnded | Completed

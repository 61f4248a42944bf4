"""How the next token is chosen."""

import math
from dataclasses import dataclass

from kindling.platform.errors import InvalidArgumentError

MAX_TEMPERATURE = 2.0
MAX_TOP_LOGPROBS = 20
SMALLEST_TEMPERATURE = 1e-5
"""Anything lower is greedy: logits divided by less would leave float32's range."""
MAX_UINT32 = 2**32 - 1
MAX_UINT64 = 2**64 - 1


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the tokens of one generation are chosen; a value that exists is valid.

    ``temperature`` 0 takes the likeliest token. ``top_p`` 1 and ``top_k`` 0 keep every token. Draws are a function of
    (``seed``, position) alone. ``max_tokens`` counts the tokens emitted elsewhere, too. ``top_logprobs`` None reports
    no log-probabilities, 0 those of the chosen tokens only.

    Raises:
        InvalidArgumentError: SAMPLING_PARAMETER_INVALID, with ``field`` naming the parameter.
    """

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    top_logprobs: int | None = None

    def __post_init__(self) -> None:
        _require_number("temperature", self.temperature, MAX_TEMPERATURE)
        _require_number("top_p", self.top_p, 1.0)
        _require_integer("top_k", self.top_k, 0, MAX_UINT32)
        _require_integer("seed", self.seed, 0, MAX_UINT64)
        _require_integer("max_tokens", self.max_tokens, 1, MAX_UINT32)
        for token_id in self.stop_token_ids:
            _require_integer("stop_token_ids", token_id, 0, MAX_UINT32)
        if self.top_logprobs is not None:
            _require_integer("top_logprobs", self.top_logprobs, 0, MAX_TOP_LOGPROBS)

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken, without a draw."""
        return self.temperature < SMALLEST_TEMPERATURE


def _require_number(field: str, value: object, maximum: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value) or not 0 <= value <= maximum:
        raise _invalid(field, value, f"a number from 0 to {maximum:g}")


def _require_integer(field: str, value: object, minimum: int, maximum: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
        raise _invalid(field, value, f"an integer from {minimum} to {maximum}")


def _invalid(field: str, value: object, expected: str) -> InvalidArgumentError:
    shown = repr(value)[:64]
    return InvalidArgumentError(
        f"{field} is {shown}; give {expected}.",
        reason="SAMPLING_PARAMETER_INVALID",
        metadata={"value": shown},
        field=field,
    )

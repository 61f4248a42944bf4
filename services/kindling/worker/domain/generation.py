"""A generation: what is asked of an engine, and the events that answer it."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from kindling.platform.errors import AlreadyExistsError, InvalidArgumentError
from kindling.worker.domain.sampling import SamplingParams


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A prompt to continue. With ``emitted_token_ids`` the engine goes on after them as if it had made them itself.

    ``tenant`` is whom it belongs to, empty for the default one: the engine is fair between tenants.
    """

    generation_id: str
    prompt_token_ids: tuple[int, ...]
    sampling: SamplingParams
    emitted_token_ids: tuple[int, ...] = ()
    tenant: str = ""

    def validate(self, *, context_length: int, vocab_size: int) -> None:
        """Check the request against a model.

        Raises:
            InvalidArgumentError: PROMPT_EMPTY, CONTEXT_LENGTH_EXCEEDED (there must be room for one token after the
                prompt, and for all emitted ones) or TOKEN_ID_INVALID.
        """
        if not self.prompt_token_ids:
            raise InvalidArgumentError(
                "The prompt has no tokens; give at least one.", reason="PROMPT_EMPTY", field="prompt_token_ids"
            )
        self._require_context(context_length)
        require_vocabulary("prompt_token_ids", self.prompt_token_ids, vocab_size)
        require_vocabulary("emitted_token_ids", self.emitted_token_ids, vocab_size)

    def going_on_after(self, emitted_token_ids: Sequence[int]) -> Self:
        """Return the same request with these tokens emitted already."""
        return replace(self, emitted_token_ids=tuple(emitted_token_ids))

    def _require_context(self, context_length: int) -> None:
        prompt_tokens, emitted_tokens = len(self.prompt_token_ids), len(self.emitted_token_ids)
        if prompt_tokens < context_length and prompt_tokens + emitted_tokens <= context_length:
            return
        raise InvalidArgumentError(
            f"The prompt has {prompt_tokens + emitted_tokens} tokens and the model's context is {context_length}; "
            "shorten the prompt so that it leaves room for at least one token.",
            reason="CONTEXT_LENGTH_EXCEEDED",
            metadata={"prompt_tokens": str(prompt_tokens), "context_length": str(context_length)},
            field="prompt_token_ids",
        )


def require_vocabulary(field: str, token_ids: Sequence[int], vocab_size: int) -> None:
    """Check that every token is one of the model's; ``field`` names what they are for.

    Raises:
        InvalidArgumentError: TOKEN_ID_INVALID.
    """
    if not token_ids or (min(token_ids) >= 0 and max(token_ids) < vocab_size):
        return
    wrong = next(token_id for token_id in token_ids if not 0 <= token_id < vocab_size)
    raise InvalidArgumentError(
        f"Token {wrong} is not in the model's vocabulary of {vocab_size}; tokenize with the model's own tokenizer.",
        reason="TOKEN_ID_INVALID",
        metadata={"token_id": str(wrong), "vocab_size": str(vocab_size)},
        field=field,
    )


def generation_exists(generation_id: str) -> AlreadyExistsError:
    """Return the error that says that the id is taken."""
    return AlreadyExistsError(
        f"Generation {generation_id!r} is running already; choose another id.",
        reason="GENERATION_EXISTS",
        metadata={"generation_id": generation_id},
    )


class FinishReason(enum.Enum):
    """Why a generation ended."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Token:
    """One token of a generation; the token that ends it (end of text, a stop token) is emitted, too.

    ``position`` counts from the end of the prompt, from 0, tokens emitted elsewhere included. ``logprob`` and
    ``top_logprobs`` (pairs of token id and natural log-probability, likeliest first) are those before temperature and
    filters; None and empty unless asked for.
    """

    generation_id: str
    position: int
    token_id: int
    logprob: float | None = None
    top_logprobs: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event of a generation. ``completion_tokens`` counts those emitted elsewhere, too."""

    generation_id: str
    reason: FinishReason
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """Every token of a held generation is computed but the last; ``position`` is that of the next token."""

    generation_id: str
    position: int


@dataclass(frozen=True, slots=True)
class Migrated:
    """The last event of a generation that goes on elsewhere; ``position`` is that of the first token told there."""

    generation_id: str
    worker_address: str
    instance_id: str
    position: int


@dataclass(frozen=True, slots=True)
class Alive:
    """Nothing is to be told of a generation, but its engine gets on."""

    generation_id: str

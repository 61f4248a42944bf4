"""How far a generation has come: the bookkeeping that every engine shares."""

from collections.abc import Iterable

from kindling.platform.errors import FailedPreconditionError, NotFoundError
from kindling.worker.domain.generation import CaughtUp, Finished, FinishReason, GenerationRequest
from kindling.worker.domain.sampling import SamplingParams


class Progress:
    """The tokens of one generation so far, and whether it has ended.

    The limit is ``max_tokens`` or what the context leaves after the prompt, whichever is less. A request whose emitted
    tokens already end it is finished from the start. While it is ``held`` its next token must not be chosen;
    ``caught_up`` says that it was told then that everything is computed.
    """

    __slots__ = (
        "_end_ids",
        "_limit",
        "_prompt_tokens",
        "caught_up",
        "generation_id",
        "held",
        "reason",
        "sampling",
        "tenant",
        "token_ids",
    )

    def __init__(
        self, request: GenerationRequest, *, eos_token_ids: frozenset[int], context_length: int, held: bool = False
    ) -> None:
        self.held = held
        self.caught_up = False
        self.generation_id = request.generation_id
        self.tenant = request.tenant
        self.sampling: SamplingParams = request.sampling
        self.token_ids = [*request.prompt_token_ids, *request.emitted_token_ids]
        self.reason: FinishReason | None = None
        self._prompt_tokens = len(request.prompt_token_ids)
        self._limit = min(request.sampling.max_tokens, context_length - self._prompt_tokens)
        eos = frozenset[int]() if request.sampling.ignore_eos else eos_token_ids
        self._end_ids = eos | frozenset(request.sampling.stop_token_ids)
        if request.emitted_token_ids:
            self._judge()

    @property
    def position(self) -> int:
        """Position of the next token, counted from the end of the prompt."""
        return len(self.token_ids) - self._prompt_tokens

    @property
    def most_tokens(self) -> int:
        """Most tokens that prompt and completion can come to."""
        return self._prompt_tokens + self._limit

    @property
    def prompt_tokens(self) -> int:
        """Tokens in the prompt."""
        return self._prompt_tokens

    @property
    def emitted(self) -> tuple[int, ...]:
        """Tokens after the prompt, those emitted elsewhere included."""
        return tuple(self.token_ids[self._prompt_tokens :])

    @property
    def is_at_rest(self) -> bool:
        """Whether there is nothing to do for it until it is extended or released."""
        return self.held and self.caught_up

    def hold(self) -> tuple[int, ...]:
        """Choose no token from now on; return those emitted so far."""
        self.held, self.caught_up = True, False
        return self.emitted

    def release(self) -> None:
        """Choose tokens again."""
        self.held = self.caught_up = False

    def extend(self, token_ids: Iterable[int]) -> None:
        """Add tokens chosen elsewhere; sets ``reason`` if one of them is the last, after which no other counts."""
        self.caught_up = False
        for token_id in token_ids:
            if self.reason is None:
                self.append(token_id)

    def catch_up(self) -> CaughtUp:
        """Return the event which tells that everything is computed."""
        self.caught_up = True
        return CaughtUp(self.generation_id, self.position)

    def append(self, token_id: int) -> None:
        """Add the next token; sets ``reason`` if it is the last one."""
        self.token_ids.append(token_id)
        self._judge()

    def finished(self, reason: FinishReason | None = None) -> Finished:
        """Return the terminal event, with ``reason`` or the reason it came to by itself."""
        final = reason or self.reason
        assert final is not None, "a running generation has no terminal event"
        return Finished(self.generation_id, final, self._prompt_tokens, self.position)

    def _judge(self) -> None:
        if self.token_ids[-1] in self._end_ids:
            self.reason = FinishReason.STOP
        elif self.position >= self._limit:
            self.reason = FinishReason.LENGTH


def require_held(progress: Progress | None, generation_id: str) -> Progress:
    """Return the progress of a held generation.

    Raises:
        NotFoundError: GENERATION_UNKNOWN, if there is none.
        FailedPreconditionError: GENERATION_NOT_HELD.
    """
    metadata = {"generation_id": generation_id}
    if progress is None:
        raise NotFoundError(
            f"Generation {generation_id!r} has ended here; start it anew.",
            reason="GENERATION_UNKNOWN",
            metadata=metadata,
        )
    if not progress.held:
        raise FailedPreconditionError(
            f"Generation {generation_id!r} chooses its own tokens; hold it first.",
            reason="GENERATION_NOT_HELD",
            metadata=metadata,
        )
    return progress

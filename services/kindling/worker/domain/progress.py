"""How far a generation has come: the bookkeeping that every engine shares."""

from kindling.worker.domain.generation import Finished, FinishReason, GenerationRequest
from kindling.worker.domain.sampling import SamplingParams


class Progress:
    """The tokens of one generation so far, and whether it has ended.

    The limit is ``max_tokens`` or what the context leaves after the prompt, whichever is less. A request whose emitted
    tokens already end it is finished from the start.
    """

    __slots__ = ("_end_ids", "_limit", "_prompt_tokens", "generation_id", "reason", "sampling", "token_ids")

    def __init__(self, request: GenerationRequest, *, eos_token_ids: frozenset[int], context_length: int) -> None:
        self.generation_id = request.generation_id
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

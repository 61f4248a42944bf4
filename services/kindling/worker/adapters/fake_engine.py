"""An engine that computes nothing: deterministic, instant, for tests and for measuring what stands around it."""

import hashlib

from kindling.platform.errors import AlreadyExistsError, InternalError
from kindling.worker.domain.generation import Finished, FinishReason, GenerationRequest, Token
from kindling.worker.domain.progress import Progress
from kindling.worker.domain.stats import EngineStats


class FakeEngine:
    """The next token is a hash of (prompt, seed, position); the end token comes only if a draw hits it.

    ``max_running`` bounds the generations that advance in one step; the others wait their turn in order.
    """

    def __init__(
        self,
        *,
        vocab_size: int = 1000,
        eos_token_ids: frozenset[int] = frozenset(),
        context_length: int = 4096,
        max_running: int = 256,
    ) -> None:
        self._vocab_size = vocab_size
        self._eos_token_ids = eos_token_ids
        self._context_length = context_length
        self._max_running = max_running
        self._prefixes: dict[str, bytes] = {}
        self._running: dict[str, Progress] = {}
        self._waiting: dict[str, Progress] = {}

    @property
    def has_work(self) -> bool:
        """Whether a generation runs or waits."""
        return bool(self._running or self._waiting)

    @property
    def context_length(self) -> int:
        """Most tokens of prompt and completion together."""
        return self._context_length

    @property
    def stats(self) -> EngineStats:
        """Generations running and waiting; KV is counted as one byte per token that may come."""
        used = sum(progress.most_tokens for progress in self._running.values())
        return EngineStats(len(self._running), len(self._waiting), used, self._max_running * self._context_length)

    def add(self, request: GenerationRequest) -> None:
        """Take a generation in; see the port."""
        request.validate(context_length=self._context_length, vocab_size=self._vocab_size)
        if request.generation_id in self._prefixes:
            raise AlreadyExistsError(
                f"Generation {request.generation_id!r} is running already; choose another id.",
                reason="GENERATION_EXISTS",
                metadata={"generation_id": request.generation_id},
            )
        self._prefixes[request.generation_id] = _prefix(request)
        self._waiting[request.generation_id] = Progress(
            request, eos_token_ids=self._eos_token_ids, context_length=self._context_length
        )

    def cancel(self, generation_id: str) -> Finished | None:
        """End a generation now; see the port."""
        progress = self._running.get(generation_id) or self._waiting.get(generation_id)
        return None if progress is None else self._end(progress, FinishReason.CANCELLED)

    def step(self) -> list[Token | Finished]:
        """Give every running generation its next token."""
        self._admit()
        tokens = [self._advance(progress) for progress in self._running.values() if progress.reason is None]
        ended = [progress for progress in self._running.values() if progress.reason is not None]
        return [*tokens, *(self._end(progress) for progress in ended)]

    def check_integrity(self) -> None:
        """Verify that every generation is known exactly once."""
        if sorted([*self._running, *self._waiting]) != sorted(self._prefixes):
            raise InternalError("The fake engine lost count of its generations.", reason="ENGINE_CORRUPT")

    def close(self) -> None:
        """Drop every generation."""
        for state in (self._running, self._waiting, self._prefixes):
            state.clear()

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._max_running:
            generation_id = next(iter(self._waiting))
            self._running[generation_id] = self._waiting.pop(generation_id)

    def _advance(self, progress: Progress) -> Token:
        position, sampling = progress.position, progress.sampling
        token_id = self._draw(progress.generation_id, position)
        progress.append(token_id)
        if sampling.top_logprobs is None:
            return Token(progress.generation_id, position, token_id)
        others = [(token_id + rank) % self._vocab_size for rank in range(sampling.top_logprobs)]
        top = tuple((other, -1.0 - rank) for rank, other in enumerate(others))
        return Token(progress.generation_id, position, token_id, -1.0, top)

    def _draw(self, generation_id: str, position: int) -> int:
        digest = hashlib.blake2b(position.to_bytes(8, "little"), key=self._prefixes[generation_id], digest_size=8)
        return int.from_bytes(digest.digest(), "little") % self._vocab_size

    def _end(self, progress: Progress, reason: FinishReason | None = None) -> Finished:
        generation_id = progress.generation_id
        self._running.pop(generation_id, None)
        self._waiting.pop(generation_id, None)
        del self._prefixes[generation_id]
        return progress.finished(reason)


def _prefix(request: GenerationRequest) -> bytes:
    """Digest what the tokens depend on: the prompt, and the seed where tokens are drawn."""
    seed = None if request.sampling.greedy else request.sampling.seed
    text = f"{seed}:{','.join(map(str, request.prompt_token_ids))}"
    return hashlib.blake2b(text.encode(), digest_size=32).digest()

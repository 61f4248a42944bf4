"""An engine that computes nothing: deterministic, instant, for tests and for measuring what stands around it."""

import hashlib
from collections.abc import Sequence

from kindling.platform.errors import InternalError
from kindling.worker.domain.generation import (
    Finished,
    FinishReason,
    GenerationRequest,
    Token,
    generation_exists,
    require_vocabulary,
)
from kindling.worker.domain.progress import Progress, require_held
from kindling.worker.domain.stats import EngineStats
from kindling.worker.domain.turns import Turns
from kindling.worker.ports import StepEvent


class FakeEngine:
    """The next token is a hash of (prompt, seed, position); the end token comes only if a draw hits it.

    ``max_running`` bounds the generations that advance in one step; the others wait for their tenants' turns.
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
        self._progress: dict[str, Progress] = {}
        self._running: dict[str, Progress] = {}
        self._waiting: Turns[Progress] = Turns()

    @property
    def has_work(self) -> bool:
        """Whether a generation runs or waits that is not held; see the port."""
        return bool(self._waiting) or any(not progress.is_at_rest for progress in self._running.values())

    @property
    def context_length(self) -> int:
        """Most tokens of prompt and completion together."""
        return self._context_length

    @property
    def stats(self) -> EngineStats:
        """Generations running and waiting; KV is counted as one byte per token that may come."""
        used = sum(progress.most_tokens for progress in self._running.values())
        return EngineStats(len(self._running), len(self._waiting), used, self._max_running * self._context_length)

    def add(self, request: GenerationRequest, *, held: bool = False) -> None:
        """Take a generation in; see the port."""
        request.validate(context_length=self._context_length, vocab_size=self._vocab_size)
        if request.generation_id in self._prefixes:
            raise generation_exists(request.generation_id)
        self._prefixes[request.generation_id] = _prefix(request)
        progress = Progress(request, eos_token_ids=self._eos_token_ids, context_length=self._context_length, held=held)
        self._progress[request.generation_id] = progress
        self._waiting.add(progress)

    def cancel(self, generation_id: str) -> Finished | None:
        """End a generation now; see the port."""
        progress = self._find(generation_id)
        return None if progress is None else self._end(progress, FinishReason.CANCELLED)

    def hold(self, generation_id: str) -> tuple[int, ...] | None:
        """Choose no token for it; see the port."""
        progress = self._find_running(generation_id)
        return None if progress is None else progress.hold()

    def extend(self, generation_id: str, token_ids: Sequence[int]) -> None:
        """Add tokens chosen elsewhere; see the port."""
        progress = require_held(self._find_running(generation_id), generation_id)
        require_vocabulary("token_ids", token_ids, self._vocab_size)
        progress.extend(token_ids)

    def release(self, generation_id: str) -> None:
        """Let it go on; see the port."""
        progress = self._find(generation_id)
        if progress is not None:
            progress.release()

    def emitted(self, generation_id: str) -> tuple[int, ...] | None:
        """Return all its tokens; see the port."""
        progress = self._find_running(generation_id)
        return None if progress is None else progress.emitted

    def step(self) -> list[StepEvent]:
        """Give every running generation its next token."""
        self._admit()
        going_on = [progress for progress in self._running.values() if progress.reason is None]
        ended = [progress for progress in self._running.values() if progress.reason is not None]
        events = [self._advance(progress) for progress in going_on if not progress.is_at_rest]
        ended += [progress for progress in going_on if progress.reason is not None]
        return [*events, *(self._end(progress) for progress in ended)]

    def check_integrity(self) -> None:
        """Verify that every generation is known exactly once."""
        waiting = [progress.generation_id for progress in self._waiting]
        if sorted([*self._running, *waiting]) != sorted(self._prefixes):
            raise InternalError("The fake engine lost count of its generations.", reason="ENGINE_CORRUPT")

    def close(self) -> None:
        """Drop every generation."""
        for state in (self._running, self._waiting, self._progress, self._prefixes):
            state.clear()

    def _admit(self) -> None:
        while len(self._running) < self._max_running:
            progress = self._waiting.next(self._running.values())
            if progress is None:
                return
            self._waiting.take(progress)
            self._running[progress.generation_id] = progress

    def _find(self, generation_id: str) -> Progress | None:
        return self._progress.get(generation_id)

    def _find_running(self, generation_id: str) -> Progress | None:
        """Return its progress unless its tokens have ended it."""
        progress = self._find(generation_id)
        return None if progress is None or progress.reason is not None else progress

    def _advance(self, progress: Progress) -> StepEvent:
        if progress.held:
            return progress.catch_up()
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
        if self._running.pop(generation_id, None) is None:
            self._waiting.remove(progress)
        del self._prefixes[generation_id], self._progress[generation_id]
        return progress.finished(reason)


def _prefix(request: GenerationRequest) -> bytes:
    """Digest what the tokens depend on: the prompt, and the seed where tokens are drawn."""
    seed = None if request.sampling.greedy else request.sampling.seed
    text = f"{seed}:{','.join(map(str, request.prompt_token_ids))}"
    return hashlib.blake2b(text.encode(), digest_size=32).digest()

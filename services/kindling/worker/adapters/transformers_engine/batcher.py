"""Decides what each step runs: who is let in, how much of whose prompt, who gives way when memory is short."""

from dataclasses import dataclass

from kindling.worker.adapters.transformers_engine.kv_cache import KvCache
from kindling.worker.adapters.transformers_engine.packing import Chunk
from kindling.worker.domain.generation import CaughtUp
from kindling.worker.domain.progress import Progress
from kindling.worker.domain.turns import Turns


@dataclass(slots=True, eq=False)
class Sequence:
    """A generation in the engine: ``computed`` of its tokens have their keys and values in the cache."""

    progress: Progress
    computed: int = 0

    @property
    def owner(self) -> str:
        """The name under which it holds KV cache."""
        return self.progress.generation_id

    @property
    def tenant(self) -> str:
        """Whom it belongs to."""
        return self.progress.tenant

    @property
    def pending(self) -> int:
        """Tokens that must go through the model before the next one can be chosen; 1 while decoding."""
        return len(self.progress.token_ids) - self.computed

    @property
    def computable(self) -> int:
        """Those of them that may: all, or all but the last while it is held, after which one would be chosen."""
        return self.pending - self.progress.held

    def chunk(self, tokens: int) -> Chunk:
        """Return the next ``tokens`` of the pending ones."""
        end = self.computed + tokens
        token_ids = tuple(self.progress.token_ids[self.computed : end])
        return Chunk(self.owner, token_ids, self.computed, last=end == len(self.progress.token_ids))


class Batcher:
    """Generations that run, oldest first, and those that wait, let in by the turns of their tenants.

    A generation is let in when its tokens so far fit the cache. When one that runs needs more and nothing is left, the
    youngest that is held gives its cache up, else the youngest of all, and waits at its tenant's front, to be computed
    anew. The oldest that is not held never gives way to another, and nobody is taken in who could not finish alone, so
    somebody always advances, unless those at rest hold what those who wait need.

    A step takes ``max_batch_tokens``, but no more than ``max_prompt_tokens_beside`` of prompts while others decode:
    they wait for the whole step (Agrawal et al., "Sarathi-Serve", OSDI 2024).
    """

    def __init__(
        self, cache: KvCache, *, max_batch_tokens: int, max_prompt_tokens_beside: int, max_running: int
    ) -> None:
        self.running: list[Sequence] = []
        self.waiting: Turns[Sequence] = Turns()
        self._cache = cache
        self._max_batch_tokens = max_batch_tokens
        self._max_prompt_tokens_beside = max_prompt_tokens_beside
        self._max_running = min(max_running, max_batch_tokens)
        self._is_stuck = False

    @property
    def has_work(self) -> bool:
        """Whether the next step could advance anybody."""
        return not self._is_stuck and any(
            not sequence.progress.is_at_rest for sequences in (self.running, self.waiting) for sequence in sequences
        )

    def add(self, sequence: Sequence) -> None:
        """Take a generation in."""
        self.waiting.add(sequence)
        self.wake()

    def remove(self, sequence: Sequence) -> None:
        """Forget a generation and free its cache."""
        if sequence in self.running:
            self.running.remove(sequence)
        else:
            self.waiting.remove(sequence)
        self._cache.release(sequence.owner)
        self.wake()

    def wake(self) -> None:
        """Something about the generations has changed, so that who was stuck may not be any more."""
        self._is_stuck = False

    def plan(self) -> list[Chunk]:
        """Choose the chunks of the next step and reserve their cache: one token of each that decodes, then prompts."""
        self._admit()
        admitted = len(self.running)
        chunks: dict[str, Chunk] = {}
        decoding = [sequence for sequence in self.running if sequence.pending == 1]
        joining = [sequence for sequence in self.running if sequence.pending > 1]
        budget = self._take(chunks, decoding, self._max_batch_tokens)
        self._take(chunks, joining, min(budget, self._max_prompt_tokens_beside) if chunks else budget)
        running = {sequence.owner for sequence in self.running}
        planned = [chunk for owner, chunk in chunks.items() if owner in running]
        # Who gave way just now, even to itself, may be let in at the next step.
        self._is_stuck = not planned and len(self.running) == admitted
        return planned

    def catch_up(self) -> list[CaughtUp]:
        """Say of whom everything is computed that may be, once each."""
        return [
            sequence.progress.catch_up()
            for sequence in self.running
            if sequence.computable == 0 and not sequence.progress.is_at_rest
        ]

    def clear(self) -> None:
        """Forget everybody."""
        self.running.clear()
        self.waiting.clear()

    def _admit(self) -> None:
        while len(self.running) < self._max_running:
            sequence = self.waiting.next(self.running)
            if sequence is None or not self._cache.reserve(sequence.owner, len(sequence.progress.token_ids)):
                return
            self.waiting.take(sequence)
            self.running.append(sequence)

    def _take(self, chunks: dict[str, Chunk], sequences: list[Sequence], budget: int) -> int:
        """Add what may be computed of ``sequences``, in order, to ``chunks``; return what is left of the budget."""
        for sequence in sequences:
            tokens = min(sequence.computable, budget)
            if tokens > 0 and self._reserve(sequence, sequence.computed + tokens):
                chunks[sequence.owner] = sequence.chunk(tokens)
                budget -= tokens
        return budget

    def _reserve(self, sequence: Sequence, tokens: int) -> bool:
        """Have room for ``tokens`` of a running generation; False if it had to give way."""
        while sequence in self.running:
            if self._cache.reserve(sequence.owner, tokens):
                return True
            self._preempt(self._victim(sequence))
        return False

    def _victim(self, needy: Sequence) -> Sequence:
        """Who gives way: nobody waits for the next token of those that are held."""
        held = [sequence for sequence in self.running if sequence.progress.held and sequence is not needy]
        return held[-1] if held else self.running[-1]

    def _preempt(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self._cache.release(sequence.owner)
        sequence.computed = 0
        sequence.progress.caught_up = False
        self.waiting.put_back(sequence)

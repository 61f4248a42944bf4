"""The transformers engine: continuous batching over an unmodified model of the library's."""

from collections import abc
from pathlib import Path

import torch

from kindling.platform.errors import (
    InternalError,
    InvalidArgumentError,
    ResourceExhaustedError,
)
from kindling.worker.adapters.devices import resolve_device
from kindling.worker.adapters.transformers_engine.architectures import read_model_config
from kindling.worker.adapters.transformers_engine.batcher import Batcher, Sequence
from kindling.worker.adapters.transformers_engine.exact_proof import layout_for
from kindling.worker.adapters.transformers_engine.kv_cache import KvCache, kv_layout
from kindling.worker.adapters.transformers_engine.packing import Chunk, Layout
from kindling.worker.adapters.transformers_engine.parameters import Parameters
from kindling.worker.adapters.transformers_engine.runner import Runner
from kindling.worker.adapters.transformers_engine.sampler import Choice, Draw, choose
from kindling.worker.adapters.transformers_engine.skeleton import build_skeleton
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
from kindling.worker.ports import StepEvent, WeightSource

DEFAULT_KV_BUDGET_BYTES = 1 << 30
DEFAULT_MAX_BATCH_TOKENS = 512
CPU_PROMPT_TOKENS_BESIDE = 64
"""A CPU computes tokens one after the other: 512 of them would be half a second for everybody who decodes."""
DEFAULT_MAX_RUNNING = 256


class TransformersEngine:
    """Runs the generations of one checkpoint; see the port ``Engine`` for what is guaranteed.

    Building it does not wait for weights; the first steps do, layer by layer. ``config_dir`` holds the checkpoint's
    ``config.json`` and, if it has one, ``generation_config.json``. ``copied_weight_bytes`` counts the parameters that
    could not be views of the source's memory. ``exact`` asks for the batch-invariant mode; the attribute says whether
    it holds on this machine.

    Raises:
        InvalidArgumentError: ARCHITECTURE_UNSUPPORTED, CONFIG_INVALID, QUANTIZATION_UNSUPPORTED, ROPE_UNSUPPORTED,
            TENSORS_MISSING, TENSORS_UNEXPECTED or TENSOR_SHAPE_MISMATCH.
        FailedPreconditionError: DEVICE_UNAVAILABLE.
    """

    def __init__(
        self,
        weights: WeightSource,
        config_dir: Path,
        *,
        device: str = "cpu",
        kv_budget_bytes: int = DEFAULT_KV_BUDGET_BYTES,
        max_batch_tokens: int = DEFAULT_MAX_BATCH_TOKENS,
        max_running: int = DEFAULT_MAX_RUNNING,
        exact: bool = False,
    ) -> None:
        model_config = read_model_config(config_dir)
        on, dtype = resolve_device(device), model_config.dtype or _stored_dtype(weights)
        model = build_skeleton(model_config, dtype, on)
        parameters = Parameters(model, weights, on)
        self.copied_weight_bytes = parameters.copied_bytes
        self._eos_token_ids = model_config.eos_token_ids
        self._context_length = model_config.context_length
        self._vocab_size = int(model_config.config.vocab_size)
        layout = layout_for(model_config, dtype, on) if exact else Layout()
        self.exact = layout.exact
        self._cache = KvCache(
            kv_layout(model_config.config, dtype, on),
            context_length=self._context_length,
            budget_bytes=kv_budget_bytes,
            block=layout.kv_block,
        )
        self._batcher = Batcher(
            self._cache,
            max_batch_tokens=max_batch_tokens,
            max_prompt_tokens_beside=CPU_PROMPT_TOKENS_BESIDE if on.type == "cpu" else max_batch_tokens,
            max_running=max_running,
        )
        self._runner: Runner | None = Runner(model, self._cache, on, layout, parameters.settle)
        self._sequences: dict[str, Sequence] = {}
        self._complete: dict[str, Finished] = {}

    @property
    def has_work(self) -> bool:
        """Whether a generation can be advanced; see the port."""
        return bool(self._complete) or self._batcher.has_work

    @property
    def context_length(self) -> int:
        """Most tokens of prompt and completion together."""
        return self._context_length

    @property
    def stats(self) -> EngineStats:
        """Generations running and waiting, and the KV cache that they hold."""
        running, waiting = len(self._batcher.running), len(self._batcher.waiting)
        return EngineStats(running, waiting, self._cache.bytes_used, self._cache.budget_bytes)

    def add(self, request: GenerationRequest, *, held: bool = False) -> None:
        """Take a generation in; see the port."""
        request.validate(context_length=self._context_length, vocab_size=self._vocab_size)
        if request.generation_id in self._sequences or request.generation_id in self._complete:
            raise generation_exists(request.generation_id)
        progress = Progress(request, eos_token_ids=self._eos_token_ids, context_length=self._context_length, held=held)
        if progress.reason is not None:
            self._complete[request.generation_id] = progress.finished()
            return
        self._require_budget(progress)
        sequence = self._sequences[request.generation_id] = Sequence(progress)
        self._batcher.add(sequence)

    @torch.inference_mode()
    def cancel(self, generation_id: str) -> Finished | None:
        """End a generation now; see the port."""
        if generation_id in self._complete:
            return self._complete.pop(generation_id)
        sequence = self._sequences.get(generation_id)
        return None if sequence is None else self._end(sequence, FinishReason.CANCELLED)

    def hold(self, generation_id: str) -> tuple[int, ...] | None:
        """Choose no token for it; see the port."""
        progress = self._progress(generation_id)
        self._batcher.wake()
        return None if progress is None else progress.hold()

    @torch.inference_mode()
    def extend(self, generation_id: str, token_ids: abc.Sequence[int]) -> None:
        """Add tokens chosen elsewhere; see the port."""
        progress = require_held(self._progress(generation_id), generation_id)
        require_vocabulary("token_ids", token_ids, self._vocab_size)
        progress.extend(token_ids)
        self._batcher.wake()
        if progress.reason is not None:
            self._complete[generation_id] = self._end(self._sequences[generation_id])

    def release(self, generation_id: str) -> None:
        """Let it go on; see the port."""
        progress = self._progress(generation_id)
        self._batcher.wake()
        if progress is not None:
            progress.release()

    def emitted(self, generation_id: str) -> tuple[int, ...] | None:
        """Return all its tokens; see the port."""
        progress = self._progress(generation_id)
        return None if progress is None else progress.emitted

    @torch.inference_mode()
    def step(self) -> list[StepEvent]:
        """Run one packed row: the next token of every decoding generation, and parts of the prompts of joining ones."""
        events: list[StepEvent] = [*self._complete.values()]
        self._complete.clear()
        chunks = self._batcher.plan()
        assert self._runner is not None, "the engine is closed"
        if chunks:
            sampled, logits = self._runner.run(chunks)
            for chunk in chunks:
                self._sequences[chunk.owner].computed = chunk.end
            events += self._advance(sampled, logits)
        return events + self._batcher.catch_up()

    def check_integrity(self) -> None:
        """Verify that generations, their cache and the batch agree; see the port."""
        batch = [*self._batcher.running, *self._batcher.waiting]
        if sorted(sequence.owner for sequence in batch) != sorted(self._sequences):
            raise InternalError("The engine lost count of its generations.", reason="ENGINE_CORRUPT")
        self._cache.check_integrity({sequence.owner for sequence in self._batcher.running})
        for sequence in batch:
            if sequence.pending < 1:
                raise InternalError("A generation is computed past its last token.", reason="ENGINE_CORRUPT")
            if sequence.computed and sequence.computed > self._cache.arena(sequence.owner).capacity:
                raise InternalError("A generation outgrew its KV cache.", reason="ENGINE_CORRUPT")

    def close(self) -> None:
        """Drop every generation, the cache and the model, and with it all views of the weights."""
        self._sequences.clear()
        self._complete.clear()
        self._batcher.clear()
        self._cache.clear()
        self._runner = None

    def _progress(self, generation_id: str) -> Progress | None:
        sequence = self._sequences.get(generation_id)
        return None if sequence is None else sequence.progress

    def _advance(self, sampled: tuple[Chunk, ...], logits: torch.Tensor) -> list[StepEvent]:
        sequences = [self._sequences[chunk.owner] for chunk in sampled]
        draws = [Draw(sequence.progress.sampling, sequence.progress.position) for sequence in sequences]
        events: list[StepEvent] = []
        for sequence, choice in zip(sequences, choose(logits, draws), strict=True):
            events.append(_append(sequence.progress, choice))
            if sequence.progress.reason is not None:
                events.append(self._end(sequence))
        return events

    def _end(self, sequence: Sequence, reason: FinishReason | None = None) -> Finished:
        del self._sequences[sequence.owner]
        self._batcher.remove(sequence)
        return sequence.progress.finished(reason)

    def _require_budget(self, progress: Progress) -> None:
        needed, budget = self._cache.bytes_for(progress.most_tokens), self._cache.budget_bytes
        if needed > budget:
            raise ResourceExhaustedError(
                f"The generation may need {needed} bytes of KV cache and the instance has {budget}; "
                "ask for fewer tokens, or give the worker a larger KV budget.",
                reason="KV_CACHE_TOO_SMALL",
                metadata={"needed_bytes": str(needed), "budget_bytes": str(budget)},
            )


def _append(progress: Progress, choice: Choice) -> Token:
    position = progress.position
    progress.append(choice.token_id)
    return Token(progress.generation_id, position, choice.token_id, choice.logprob, choice.top_logprobs)


def _stored_dtype(weights: WeightSource) -> torch.dtype:
    for name in weights.tensors:
        dtype = weights.tensor(name).dtype
        if dtype.is_floating_point:
            return dtype
    raise InvalidArgumentError("The checkpoint has no tensors of floating-point numbers.", reason="TENSORS_MISSING")

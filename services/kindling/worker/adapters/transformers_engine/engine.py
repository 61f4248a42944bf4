"""The transformers engine: continuous batching over an unmodified model of the library's."""

from pathlib import Path

import torch

from kindling.platform.errors import (
    AlreadyExistsError,
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
from kindling.worker.domain.generation import Finished, FinishReason, GenerationRequest, Token
from kindling.worker.domain.progress import Progress
from kindling.worker.domain.stats import EngineStats
from kindling.worker.ports import WeightSource

DEFAULT_KV_BUDGET_BYTES = 1 << 30
DEFAULT_MAX_BATCH_TOKENS = 512
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
        self._batcher = Batcher(self._cache, max_batch_tokens=max_batch_tokens, max_running=max_running)
        self._runner: Runner | None = Runner(model, self._cache, on, layout, parameters.settle)
        self._sequences: dict[str, Sequence] = {}
        self._complete: list[Finished] = []

    @property
    def has_work(self) -> bool:
        """Whether a generation runs or waits."""
        return bool(self._sequences or self._complete)

    @property
    def context_length(self) -> int:
        """Most tokens of prompt and completion together."""
        return self._context_length

    @property
    def stats(self) -> EngineStats:
        """Generations running and waiting, and the KV cache that they hold."""
        running, waiting = len(self._batcher.running), len(self._batcher.waiting)
        return EngineStats(running, waiting, self._cache.bytes_used, self._cache.budget_bytes)

    def add(self, request: GenerationRequest) -> None:
        """Take a generation in; see the port."""
        request.validate(context_length=self._context_length, vocab_size=self._vocab_size)
        if request.generation_id in self._sequences:
            raise AlreadyExistsError(
                f"Generation {request.generation_id!r} is running already; choose another id.",
                reason="GENERATION_EXISTS",
                metadata={"generation_id": request.generation_id},
            )
        progress = Progress(request, eos_token_ids=self._eos_token_ids, context_length=self._context_length)
        if progress.reason is not None:
            self._complete.append(progress.finished())
            return
        self._require_budget(progress)
        sequence = self._sequences[request.generation_id] = Sequence(progress)
        self._batcher.waiting.append(sequence)

    @torch.inference_mode()
    def cancel(self, generation_id: str) -> Finished | None:
        """End a generation now; see the port."""
        sequence = self._sequences.get(generation_id)
        return None if sequence is None else self._end(sequence, FinishReason.CANCELLED)

    @torch.inference_mode()
    def step(self) -> list[Token | Finished]:
        """Run one packed row: the next token of every decoding generation, and parts of the prompts of joining ones."""
        events: list[Token | Finished] = [*self._complete]
        self._complete.clear()
        chunks = self._batcher.plan()
        assert self._runner is not None, "the engine is closed"
        if chunks:
            sampled, logits = self._runner.run(chunks)
            for chunk in chunks:
                self._sequences[chunk.owner].computed = chunk.end
            events += self._advance(sampled, logits)
        return events

    def check_integrity(self) -> None:
        """Verify that generations, their cache and the batch agree; see the port."""
        batch = [*self._batcher.running, *self._batcher.waiting]
        if sorted(sequence.owner for sequence in batch) != sorted(self._sequences):
            raise InternalError("The engine lost count of its generations.", reason="ENGINE_CORRUPT")
        self._cache.check_integrity({sequence.owner for sequence in self._batcher.running})
        for sequence in batch:
            if sequence.computed and sequence.computed > self._cache.arena(sequence.owner).capacity:
                raise InternalError("A generation outgrew its KV cache.", reason="ENGINE_CORRUPT")

    def close(self) -> None:
        """Drop every generation, the cache and the model, and with it all views of the weights."""
        self._sequences.clear()
        self._complete.clear()
        self._batcher.running.clear()
        self._batcher.waiting.clear()
        self._cache.clear()
        self._runner = None

    def _advance(self, sampled: tuple[Chunk, ...], logits: torch.Tensor) -> list[Token | Finished]:
        sequences = [self._sequences[chunk.owner] for chunk in sampled]
        draws = [Draw(sequence.progress.sampling, sequence.progress.position) for sequence in sequences]
        events: list[Token | Finished] = []
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

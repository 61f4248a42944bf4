"""Engines and weight sources for tests: tiny models, runs to the end, weights that arrive when a test says so."""

import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from kindling.platform.errors import UnavailableError
from kindling.worker.adapters.transformers_engine import DirectoryWeightSource
from kindling.worker.domain.generation import Finished, FinishReason, GenerationRequest, Token
from kindling.worker.domain.sampling import SamplingParams
from kindling.worker.domain.tensor_spec import TensorSpec
from kindling.worker.ports import Engine, WeightSource

torch.set_num_threads(1)

VOCAB_SIZE = 199
CONTEXT_LENGTH = 512
SLIDING_WINDOW = 17

_SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": CONTEXT_LENGTH,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
_GATED: dict[str, Any] = {**_SHAPE, "num_key_value_heads": 2, "intermediate_size": 96, "initializer_range": 0.2}
_OPT = {**_SHAPE, "ffn_dim": 96, "init_std": 0.2, "word_embed_proj_dim": 64}
_EXPERTS = {**_GATED, "num_local_experts": 4, "sliding_window": None}
_MOE = {**_GATED, "num_experts": 4, "num_experts_per_tok": 2}
_MOE_3 = {**_MOE, "moe_intermediate_size": 32, "head_dim": 16, "mlp_only_layers": [], "decoder_sparse_step": 1}
_NEOX = {key: value for key, value in _GATED.items() if key != "num_key_value_heads"}
_WINDOWS = {"use_sliding_window": True, "sliding_window": SLIDING_WINDOW, "max_window_layers": 1}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", _GATED),
    "llama-tied": ("Llama", {**_GATED, "tie_word_embeddings": True}),
    "qwen2": ("Qwen2", {**_GATED, "tie_word_embeddings": True}),
    "qwen2-untied-windows": ("Qwen2", {**_GATED, **_WINDOWS}),
    "qwen3": ("Qwen3", {**_GATED, "head_dim": 24}),
    "mistral": ("Mistral", {**_GATED, "sliding_window": None}),
    "mistral-window": ("Mistral", {**_GATED, "sliding_window": SLIDING_WINDOW}),
    "mixtral": ("Mixtral", _EXPERTS),
    "mixtral-tied": ("Mixtral", {**_EXPERTS, "tie_word_embeddings": True}),
    "opt": ("OPT", _OPT),
    "opt-untied": ("OPT", {**_OPT, "tie_word_embeddings": False}),
    "gpt2": ("GPT2", {**_SHAPE, "initializer_range": 0.2}),
    "gpt2-untied": ("GPT2", {**_SHAPE, "initializer_range": 0.2, "tie_word_embeddings": False}),
    "cohere": ("Cohere", _GATED),
    "ernie": ("Ernie4_5", _GATED),
    "gemma": ("Gemma", {**_GATED, "head_dim": 16}),
    "glm": ("Glm", {**_GATED, "head_dim": 16}),
    "glm4": ("Glm4", {**_GATED, "head_dim": 16}),
    "gpt-neox": ("GPTNeoX", _NEOX),
    "granite": ("Granite", _GATED),
    "helium": ("Helium", {**_GATED, "head_dim": 16}),
    "olmo": ("Olmo", _GATED),
    "olmo2": ("Olmo2", _GATED),
    "olmo3": ("Olmo3", {**_GATED, "sliding_window": SLIDING_WINDOW}),
    "olmoe": ("Olmoe", _MOE),
    "phi": ("Phi", _GATED),
    "phi3": ("Phi3", _GATED),
    "qwen2-moe": ("Qwen2Moe", {**_MOE, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32}),
    "qwen3-moe": ("Qwen3Moe", _MOE_3),
    "seed-oss": ("SeedOss", {**_GATED, "head_dim": 16}),
    "smollm3": ("SmolLM3", _GATED),
    "starcoder2-window": ("Starcoder2", {**_GATED, "sliding_window": SLIDING_WINDOW}),
}
"""Tiny models by a name of ours: the family and the configuration."""


def write_model(directory: Path, name: str, *, dtype: torch.dtype = torch.float32, **overrides: Any) -> Any:
    """Write a tiny model with random weights, and return it."""
    family, values = MODELS[name]
    config = getattr(transformers, f"{family}Config")(**{**values, **overrides})
    suffix = "LMHeadModel" if family == "GPT2" else "ForCausalLM"
    torch.manual_seed(7)
    model = getattr(transformers, family + suffix)(config).to(dtype).eval()
    model.save_pretrained(directory, max_shard_size="60KB")
    return model


def generate(model: Any, prompt: Sequence[int], max_tokens: int) -> list[int]:
    """What transformers itself generates after ``prompt``, greedily."""
    inputs = torch.tensor([list(prompt)])
    mask = torch.ones_like(inputs)
    with torch.inference_mode():
        output = model.generate(inputs, attention_mask=mask, max_new_tokens=max_tokens, do_sample=False)
    return output[0, len(prompt) :].tolist()


def prompt_of(length: int, seed: int = 0) -> tuple[int, ...]:
    """A prompt of random tokens."""
    generator = torch.Generator().manual_seed(1000 * seed + length)
    return tuple(torch.randint(0, VOCAB_SIZE, (length,), generator=generator).tolist())


def request(
    generation_id: str,
    prompt: Sequence[int] = (1, 2, 3),
    emitted: Sequence[int] = (),
    tenant: str = "",
    **sampling: Any,
) -> GenerationRequest:
    """A request, by default for eight greedy tokens."""
    params = SamplingParams(**{"max_tokens": 8, **sampling})
    return GenerationRequest(generation_id, tuple(prompt), params, tuple(emitted), tenant)


Outcome = dict[str, list[Token | Finished]]


def run(engine: Engine, requests: Sequence[GenerationRequest], *, every: int = 0) -> Outcome:
    """Run requests to their ends, one joining every ``every`` steps (0: all at once); checks every step."""
    outcome: Outcome = {}
    waiting = list(requests)
    steps = 0
    while waiting or engine.has_work:
        while waiting and steps >= every * (len(requests) - len(waiting)):
            engine.add(waiting.pop(0))
        for event in engine.step():
            outcome.setdefault(event.generation_id, []).append(event)
        engine.check_integrity()
        steps += 1
    return outcome


def tokens(events: Sequence[Token | Finished]) -> list[int]:
    """Token ids of one generation's events, which must be contiguous and end with one ``Finished``."""
    *emitted, last = events
    assert isinstance(last, Finished)
    assert all(isinstance(token, Token) for token in emitted)
    positions = [token.position for token in emitted if isinstance(token, Token)]
    assert positions == list(range(last.completion_tokens - len(emitted), last.completion_tokens))
    return [token.token_id for token in emitted if isinstance(token, Token)]


def reason(events: Sequence[Token | Finished]) -> FinishReason:
    """Why a generation ended."""
    last = events[-1]
    assert isinstance(last, Finished)
    return last.reason


class OrderedWeightSource:
    """Copies of another source's tensors, one after the other in one storage, in an order of the test's choosing."""

    def __init__(self, inner: WeightSource, names: Sequence[str]) -> None:
        assert sorted(names) == sorted(inner.tensors)
        self.tensors: Mapping[str, TensorSpec] = {name: inner.tensors[name] for name in names}
        self.storage = torch.cat([inner.tensor(name).reshape(-1) for name in names])
        self.complete = True
        self._views: dict[str, torch.Tensor] = {}
        start = 0
        for name in names:
            original = inner.tensor(name)
            self._views[name] = self.storage[start : start + original.numel()].view(original.shape)
            start += original.numel()

    def tensor(self, name: str) -> torch.Tensor:
        """A view of the one storage."""
        return self._views[name]

    def wait(self, names: Iterable[str]) -> None:
        """Everything is there."""


class GatedWeightSource:
    """Weights that arrive when the test lets them: not-a-number until then, and a wait for them blocks."""

    def __init__(self, directory: Path) -> None:
        self._inner = DirectoryWeightSource(directory)
        self._changed = threading.Condition()
        self._arrived: set[str] = set()
        self._broken = False
        self._memory = {name: torch.full_like(self._inner.tensor(name), float("nan")) for name in self._inner.tensors}
        self.blocked_on: threading.Event = threading.Event()
        self.awaited: list[str] = []

    @property
    def tensors(self) -> Mapping[str, TensorSpec]:
        """Those of the directory."""
        return self._inner.tensors

    @property
    def complete(self) -> bool:
        """Whether all were let through."""
        return len(self._arrived) == len(self._memory)

    def tensor(self, name: str) -> torch.Tensor:
        """A view of memory that is filled later."""
        return self._memory[name]

    def arrive(self, names: Iterable[str]) -> None:
        """Let these tensors arrive."""
        with self._changed:
            for name in names:
                self._memory[name].copy_(self._inner.tensor(name))
                self._arrived.add(name)
            self._changed.notify_all()

    def fail(self) -> None:
        """Let the load fail."""
        with self._changed:
            self._broken = True
            self._changed.notify_all()

    def wait(self, names: Iterable[str]) -> None:
        """Block until these have arrived."""
        wanted = set(names)
        self.awaited += sorted(wanted)
        with self._changed:
            while not wanted <= self._arrived:
                if self._broken:
                    raise UnavailableError("The load failed; try again.", reason="LOAD_FAILED")
                self.blocked_on.set()
                self._changed.wait(timeout=60)

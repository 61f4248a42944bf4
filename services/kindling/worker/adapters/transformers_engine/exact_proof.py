"""Tries on this machine whether the batch-invariant mode is what it promises; see ``exact``."""

import copy
from collections.abc import Mapping

import torch
from torch import nn
from transformers import PreTrainedModel

from kindling.platform.logging import get_logger
from kindling.worker.adapters.transformers_engine.architectures import ModelConfig
from kindling.worker.adapters.transformers_engine.exact import KV_BLOCK, exact_layout
from kindling.worker.adapters.transformers_engine.kv_cache import KvCache, kv_layout
from kindling.worker.adapters.transformers_engine.packing import Chunk, Layout
from kindling.worker.adapters.transformers_engine.runner import Runner
from kindling.worker.adapters.transformers_engine.skeleton import build_skeleton

log = get_logger(__name__)
_LAYERS = 2
"""The second one's keys and values depend on everything that the first one does."""
_VOCABULARY_ELEMENTS = 1 << 25
_NOISE_VALUES = 1_000_003
_PIECES = (1, 2, 3, 5, 9, 17, 33, 65, 129)
_SINGLE_STEPS = 24
_COMPANIONS = 7
_PLENTY = 1 << 62
_proven: dict[tuple[str, torch.dtype, torch.device, int], bool] = {}

Outcome = tuple[torch.Tensor, ...]


def layout_for(model_config: ModelConfig, dtype: torch.dtype, device: torch.device) -> Layout:
    """Return the batch-invariant layout if it holds for such a model here, else the fast one, with a warning.

    Tried once in a process for each shape of model: with two layers of random weights it takes a moment.
    """
    threads = torch.get_num_threads()
    key = (model_config.config.to_json_string(use_diff=False), dtype, device, threads)
    if key not in _proven:
        _proven[key] = holds(exact_layout(dtype), model_config, dtype, device)
    if _proven[key]:
        return exact_layout(dtype)
    architecture = model_config.model_class.__name__
    log.warning("exact_unavailable", architecture=architecture, dtype=str(dtype), device=str(device), threads=threads)
    return Layout()


@torch.inference_mode()
def holds(layout: Layout, model_config: ModelConfig, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether a sequence's keys, values and logits are bitwise the same in pieces, token by token, and in company."""
    small = _shrunk(model_config)
    model = build_skeleton(small, dtype, device)
    _fill_with_noise(model, device)
    cache = KvCache(
        kv_layout(small.config, dtype, device),
        context_length=small.context_length,
        budget_bytes=_PLENTY,
        block=layout.kv_block,
    )
    trial = _Trial(Runner(model, cache, device, layout), cache, small)
    expected = trial.whole()
    return all(_equal(way(), expected) for way in (trial.in_pieces, trial.alone, trial.in_company))


class _Trial:
    """One sequence of tokens, run through a model in several ways."""

    def __init__(self, runner: Runner, cache: KvCache, model_config: ModelConfig) -> None:
        self._runner = runner
        self._cache = cache
        self._end = min(KV_BLOCK + _SINGLE_STEPS // 2, model_config.context_length)
        noise = torch.Generator().manual_seed(1)
        vocabulary = int(model_config.config.vocab_size)
        self._token_ids = tuple(torch.randint(vocabulary, (self._end,), generator=noise).tolist())
        self._computed: dict[str, int] = {}

    def whole(self) -> Outcome:
        return self._outcome("whole", self._advance({"whole": self._end}))

    def in_pieces(self) -> Outcome:
        end = 0
        for tokens in _PIECES:
            end = min(end + tokens, self._end - 1)
            self._advance({"pieces": end})
        return self._outcome("pieces", self._advance({"pieces": self._end}))

    def alone(self) -> Outcome:
        start = self._end - _SINGLE_STEPS
        ends = range(start, self._end + 1)
        return self._outcome("alone", [self._advance({"alone": end}) for end in ends][-1])

    def in_company(self) -> Outcome:
        """Others decode beside it, and a new prompt joins with every step."""
        start = self._end - _SINGLE_STEPS
        others = {f"other {number}": 3 * number + 2 for number in range(_COMPANIONS)}
        self._advance({**others, "company": start})
        logits: Mapping[str, torch.Tensor] = {}
        for step in range(1, _SINGLE_STEPS + 1):
            decoding = {name: prompt + step for name, prompt in others.items()}
            joining = {f"joins at {step}": step * step % self._end + 1}
            logits = self._advance({**decoding, "company": start + step, **joining})
        return self._outcome("company", logits)

    def _advance(self, ends: Mapping[str, int]) -> Mapping[str, torch.Tensor]:
        """Compute each owner's tokens up to an end, all in one step; return the logits after them."""
        chunks = [self._chunk(owner, end) for owner, end in ends.items() if end > self._computed.get(owner, 0)]
        sampled, logits = self._runner.run(chunks)
        return {chunk.owner: row for chunk, row in zip(sampled, logits, strict=True)}

    def _chunk(self, owner: str, end: int) -> Chunk:
        start = self._computed.get(owner, 0)
        self._computed[owner] = end
        self._cache.reserve(owner, end)
        return Chunk(owner, self._token_ids[start:end], start, last=True)

    def _outcome(self, owner: str, logits: Mapping[str, torch.Tensor]) -> Outcome:
        arena = self._cache.arena(owner)
        slot = arena.slot_of[owner]
        last = (tensors[-1][slot, :, : self._end].clone() for tensors in (arena.keys, arena.values))
        return (*last, logits[owner])


def _shrunk(model_config: ModelConfig) -> ModelConfig:
    """As the model, with fewer layers and at most a moderate vocabulary."""
    config = copy.deepcopy(model_config.config)
    config.num_hidden_layers = min(_LAYERS, config.num_hidden_layers)
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[-config.num_hidden_layers :]
    config.vocab_size = min(config.vocab_size, max(2, _VOCABULARY_ELEMENTS // config.hidden_size))
    config.pad_token_id = None
    return ModelConfig(model_config.model_class, config, frozenset())


def _fill_with_noise(model: PreTrainedModel, device: torch.device) -> None:
    """Give every parameter values cut from one block of noise, of a size at which activations keep theirs."""
    noise = torch.randn(_NOISE_VALUES, generator=torch.Generator().manual_seed(0))
    for module in model.modules():
        for name, meta in module._parameters.items():  # noqa: SLF001 — torch has no public way to replace one
            if meta is not None:
                values = noise.repeat(-(-meta.numel() // _NOISE_VALUES))[: meta.numel()].view(meta.shape)
                values = 1 + values / 8 if meta.dim() == 1 else values * meta.shape[-1] ** -0.5
                module._parameters[name] = nn.Parameter(values.to(device, meta.dtype), requires_grad=False)  # noqa: SLF001


def _equal(one: Outcome, other: Outcome) -> bool:
    return all(torch.equal(here, there) for here, there in zip(one, other, strict=True))

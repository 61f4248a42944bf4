"""Running a tiny model, so that no cold start pays for what happens only once in a process."""

import json
import tempfile
import time
from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path
from typing import Any, Final

import torch

from kindling.worker.adapters.transformers_engine.engine import TransformersEngine
from kindling.worker.domain.generation import GenerationRequest
from kindling.worker.domain.sampling import SamplingParams
from kindling.worker.domain.tensor_spec import TensorSpec

_WIDTH: Final = 32
_VOCABULARY: Final = 64
_LAYERS: Final = 24
"""As many as ordinary models have: building one takes time by the layer, not by the byte."""

_CONFIG: Final[dict[str, Any]] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "dtype": "bfloat16",
    "hidden_size": _WIDTH,
    "intermediate_size": _WIDTH,
    "num_hidden_layers": _LAYERS,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": _VOCABULARY,
    "max_position_embeddings": 256,
    "tie_word_embeddings": True,
}
_LAYER: Final = {
    **{f"self_attn.{name}_proj": (_WIDTH, _WIDTH) for name in "qkvo"},
    **{f"mlp.{name}_proj": (_WIDTH, _WIDTH) for name in ("gate", "up", "down")},
    "input_layernorm": (_WIDTH,),
    "post_attention_layernorm": (_WIDTH,),
}
_SHAPES: Final[dict[str, tuple[int, ...]]] = {
    "model.embed_tokens.weight": (_VOCABULARY, _WIDTH),
    **{f"model.layers.{layer}.{name}.weight": shape for layer in range(_LAYERS) for name, shape in _LAYER.items()},
    "model.norm.weight": (_WIDTH,),
}


def run_tiny_model(device: str) -> float:
    """Build and run a tiny model twice, as an instance would; return the seconds that the second building took."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "config.json").write_text(json.dumps(_CONFIG))
        _start(directory, device)
        return _start(directory, device)


def _start(directory: Path, device: str) -> float:
    weights = _BlankWeights(device)
    began = time.perf_counter()
    engine = TransformersEngine(weights, directory, device=device, kv_budget_bytes=2**20)
    seconds = time.perf_counter() - began
    engine.add(GenerationRequest("warm-up", tuple(range(_VOCABULARY)), SamplingParams(max_tokens=3, ignore_eos=True)))
    while engine.has_work:
        engine.step()
    engine.close()
    return seconds


class _BlankWeights:
    """Zeros for every tensor of the tiny model."""

    complete = True

    def __init__(self, device: str) -> None:
        self.tensors: Mapping[str, TensorSpec] = {
            name: TensorSpec(name, "BF16", shape, 2 * prod(shape)) for name, shape in _SHAPES.items()
        }
        self._zeros = {name: torch.zeros(shape, dtype=torch.bfloat16, device=device) for name, shape in _SHAPES.items()}

    def tensor(self, name: str) -> torch.Tensor:
        """Return zeros."""
        return self._zeros[name]

    def wait(self, names: Iterable[str]) -> None:
        """Return at once."""

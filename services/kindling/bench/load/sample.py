"""Makes the benchmark's checkpoints: Llamas in bf16 of a wanted size, whose weights are numbers but mean nothing."""

import json
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kindling.bench.load.options import MIB

LAYERS = 32
VOCABULARY = 4096
CONTEXT_LENGTH = 4096
_HEAD_BYTES = 64 * 2
_BLOCK_BYTES = 32 * MIB
_ONE = 0x3F80


@dataclass(frozen=True, slots=True)
class Shape:
    """The widths of a Llama with 32 layers, or fewer for the smallest sizes."""

    hidden: int
    intermediate: int
    layers: int = LAYERS

    @property
    def kv(self) -> int:
        """Width of keys and of values: a quarter of the heads, at least one."""
        return max(64, self.hidden // 4)

    @property
    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Every tensor, in the order in which a forward pass needs them."""
        shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, self.hidden)}
        for layer in range(self.layers):
            shapes |= {f"model.layers.{layer}.{name}": shape for name, shape in self._layer().items()}
        return shapes | {"model.norm.weight": (self.hidden,), "lm_head.weight": (VOCABULARY, self.hidden)}

    def _layer(self) -> dict[str, tuple[int, ...]]:
        return {
            "input_layernorm.weight": (self.hidden,),
            "self_attn.q_proj.weight": (self.hidden, self.hidden),
            "self_attn.k_proj.weight": (self.kv, self.hidden),
            "self_attn.v_proj.weight": (self.kv, self.hidden),
            "self_attn.o_proj.weight": (self.hidden, self.hidden),
            "post_attention_layernorm.weight": (self.hidden,),
            "mlp.gate_proj.weight": (self.intermediate, self.hidden),
            "mlp.up_proj.weight": (self.intermediate, self.hidden),
            "mlp.down_proj.weight": (self.hidden, self.intermediate),
        }


def shape_of_size(size_bytes: int) -> Shape:
    """Return the Llama whose weights come closest to ``size_bytes``; about 4 MiB is the least."""
    per_layer = size_bytes / 2 / LAYERS
    hidden = max(128, round(math.sqrt(per_layer / 12) / 256) * 256)
    attention = hidden * (2 * hidden + 2 * max(64, hidden // 4))
    rest = (size_bytes / 2 - 2 * VOCABULARY * hidden) / LAYERS - attention
    return Shape(hidden, max(64, round(rest / (3 * hidden) / 64) * 64))


def make_model(directory: Path, size_bytes: int, seed: int) -> None:
    """Write a Hugging Face directory: config.json and one safetensors file."""
    directory.mkdir(parents=True)
    shape = shape_of_size(size_bytes)
    (directory / "config.json").write_text(json.dumps(_config(shape)))
    with (directory / "model.safetensors").open("wb") as file:
        file.write(_header(shape))
        for piece in _pieces(shape, seed):
            file.write(piece)


def _config(shape: Shape) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.hidden // 64,
        "num_key_value_heads": shape.kv // 64,
        "head_dim": 64,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": CONTEXT_LENGTH,
        "tie_word_embeddings": False,
        "dtype": "bfloat16",
        "bos_token_id": 0,
        "eos_token_id": 1,
    }


def _header(shape: Shape) -> bytes:
    entries, start = {}, 0
    for name, dimensions in shape.tensors.items():
        end = start + 2 * math.prod(dimensions)
        entries[name] = {"dtype": "BF16", "shape": dimensions, "data_offsets": [start, end]}
        start = end
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _pieces(shape: Shape, seed: int) -> Iterator[memoryview]:
    """Every tensor's bytes: norms are ones, the rest are cut from one block of small random numbers."""
    random = np.random.default_rng(seed)
    block = _bfloat16(random.standard_normal(_BLOCK_BYTES // 2, dtype=np.float32) * np.float32(0.02))
    for name, dimensions in shape.tensors.items():
        left = math.prod(dimensions)
        if name.endswith("norm.weight"):
            yield np.full(left, _ONE, dtype=np.uint16).data
            continue
        while left:
            start = int(random.integers(len(block) // 2))
            piece = block[start : start + left]
            yield piece.data
            left -= len(piece)


def _bfloat16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    return (values.view(np.uint32) >> np.uint32(16)).astype(np.uint16)

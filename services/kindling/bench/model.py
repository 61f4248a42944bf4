"""The benchmarks' model: a Llama of random weights."""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

VOCABULARY: Final = 32_000
CONTEXT_LENGTH: Final = 8192
_HEAD_DIM: Final = 64
_BYTES_PER_NUMBER: Final = 4


@dataclass(frozen=True, slots=True)
class Shape:
    """Widths of a Llama; keys and values have ``kv_heads`` of the heads."""

    layers: int
    heads: int
    kv_heads: int
    vocabulary: int = VOCABULARY
    context_length: int = CONTEXT_LENGTH

    @property
    def hidden(self) -> int:
        """Width of a token."""
        return self.heads * _HEAD_DIM

    @property
    def kv_bytes_per_token(self) -> int:
        """What one token's keys and values take in all layers together, in float32."""
        return 2 * self.layers * self.kv_heads * _HEAD_DIM * _BYTES_PER_NUMBER


def make_model(directory: Path, shape: Shape, dtype: str) -> None:
    """Write a Hugging Face directory with random weights that never ends a text by itself; its words are numbers."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.hidden * 11 // 4,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=shape.context_length,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    torch.manual_seed(0)
    model: Any = LlamaForCausalLM(config)
    model.to(getattr(torch, dtype)).save_pretrained(directory)
    words = {f" {number}": number for number in range(shape.vocabulary)}
    Tokenizer(WordLevel(words, unk_token=" 0")).save(str(directory / "tokenizer.json"))  # noqa: S106 - no secret


def random_prompt(shape: Shape, length: int, seed: int) -> list[int]:
    """Return a prompt that no other seed gives."""
    chance = random.Random(seed)
    return [chance.randrange(shape.vocabulary) for _ in range(length)]

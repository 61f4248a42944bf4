"""The model that everybody runs, and the prompts that everybody continues."""

import random
from pathlib import Path
from typing import Any, Final

SHORTEST_PROMPT, LONGEST_PROMPT = 16, 128
VOCABULARY: Final = 32_000
Prompts = list[list[int]]


def make_model(directory: Path) -> None:
    """Write a Llama of about 60 million random parameters in bf16 that never ends a text by itself."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=2048,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    torch.manual_seed(0)
    model: Any = LlamaForCausalLM(config)
    model.to(torch.bfloat16).save_pretrained(directory)


def prompts_of(requests: int, number: int) -> Prompts:
    """Return the prompts of pass ``number``: lengths spread evenly over the range, in a random order, no two alike."""
    chance = random.Random(1000 * requests + number)
    step = (LONGEST_PROMPT - SHORTEST_PROMPT) / requests
    lengths = [round(SHORTEST_PROMPT + step * (index + 0.5)) for index in range(requests)]
    chance.shuffle(lengths)
    return [[chance.randrange(VOCABULARY) for _ in range(length)] for length in lengths]

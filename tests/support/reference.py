"""What transformers itself answers: the truth that Kindling's tokens are compared with."""

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def generate(directory: Path, prompt: Sequence[int], max_new_tokens: int, *, ignore_eos: bool = False) -> list[int]:
    """Greedy tokens of transformers' ``generate`` on a Hugging Face directory."""
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(directory)
    ids = torch.tensor([list(prompt)])
    end = {"eos_token_id": None} if ignore_eos else {}
    output = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_new_tokens, do_sample=False, **end
    )
    return output[0, len(prompt) :].tolist()


def chat_prompt(directory: Path, text: str) -> list[int]:
    """Tokens of a conversation of one message, through the model's own template."""
    tokenizer = AutoTokenizer.from_pretrained(directory)
    rendered = tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
    )
    return tokenizer.encode(rendered, add_special_tokens=False)


def decode(directory: Path, token_ids: Sequence[int]) -> str:
    """Text of tokens, special ones left out."""
    return AutoTokenizer.from_pretrained(directory).decode(token_ids, skip_special_tokens=True)

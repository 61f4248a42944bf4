"""Makes the sample checkpoint of the demo: a real Hugging Face directory, with weights that nobody trained.

Runs as a program of its own, ``python -m kindling.cli.sample DIR``, so that torch stays out of the command line.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CONTEXT_LENGTH = 2048
_SEED = 20240710
_BOS, _EOS, _USER, _ASSISTANT, _SYSTEM = "<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>"
_SPECIAL = [_BOS, _EOS, _USER, _ASSISTANT, _SYSTEM]
_CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message.role }}|>{{ message.content }}{{ eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_VOCABULARY = 4096


def make_sample(directory: Path, *, layers: int = 14, hidden_size: int = 1024, shard_size: str = "100MB") -> None:
    """Write a Llama of random weights (over 256 MiB with the defaults) to ``directory``."""
    tokenizer = make_tokenizer()
    model = _model(len(tokenizer), layers, hidden_size)
    model.save_pretrained(directory, max_shard_size=shard_size)
    tokenizer.save_pretrained(directory)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Train a byte-level BPE on a little English: any text can be encoded, and decoding gives it back."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=_SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    fast: PreTrainedTokenizerFast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, bos_token=_BOS, eos_token=_EOS, pad_token=_EOS
    )
    fast.chat_template = _CHAT_TEMPLATE
    fast.model_max_length = CONTEXT_LENGTH
    return fast


def _corpus() -> Iterator[str]:
    """Yield English to learn merges from: the text of this package, which is there wherever the demo runs."""
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        yield path.read_text()


def _model(vocabulary: int, layers: int, hidden_size: int) -> LlamaForCausalLM:
    torch.manual_seed(_SEED)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden_size,
        intermediate_size=hidden_size * 5 // 2,
        num_hidden_layers=layers,
        num_attention_heads=hidden_size // 64,
        num_key_value_heads=max(1, hidden_size // 256),
        max_position_embeddings=CONTEXT_LENGTH,
        bos_token_id=_SPECIAL.index(_BOS),
        eos_token_id=_SPECIAL.index(_EOS),
        tie_word_embeddings=False,
        dtype=torch.bfloat16,
    )
    model: LlamaForCausalLM = LlamaForCausalLM._from_config(  # type: ignore[no-untyped-call]  # noqa: SLF001
        config, dtype=torch.bfloat16
    )
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, do_sample=True, temperature=1.0
    )
    return model


if __name__ == "__main__":
    make_sample(Path(sys.argv[1]))

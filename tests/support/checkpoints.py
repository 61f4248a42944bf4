"""Tiny real Hugging Face directories for tests: random weights from a seed, a real byte-level tokenizer, a template."""

import atexit
import functools
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BOS, EOS, PAD = "<|bos|>", "<|eos|>", "<|pad|>"

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}{{ eos_token }}\n"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)

_CORPUS = (
    "The quick brown fox jumps over the lazy dog while a kettle sings.",
    "Kindling lights a fire: small sticks first, then the log.",
    "Grüße aus München, naïve café, señor, déjà vu — 你好，世界。 こんにちは 🙂🔥",
    "def add(a, b):\n    return a + b\n",
    "0 1 2 3 4 5 6 7 8 9 10 100 1000",
)


@dataclass(frozen=True, slots=True)
class _Shape:
    """Keyword arguments of a configuration class, by the sizes that a test asks for."""

    hidden_size: int
    layers: int
    vocab_size: int
    context_length: int
    tied: bool

    def llama_like(self, **more: Any) -> dict[str, Any]:
        return {
            "hidden_size": self.hidden_size,
            "intermediate_size": self.hidden_size * 2,
            "num_hidden_layers": self.layers,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": self.context_length,
            **more,
        }

    def opt(self) -> dict[str, Any]:
        return {
            "hidden_size": self.hidden_size,
            "word_embed_proj_dim": self.hidden_size,
            "ffn_dim": self.hidden_size * 2,
            "num_hidden_layers": self.layers,
            "num_attention_heads": 4,
            "max_position_embeddings": self.context_length,
        }

    def gpt2(self) -> dict[str, Any]:
        return {
            "n_embd": self.hidden_size,
            "n_layer": self.layers,
            "n_head": 4,
            "n_positions": self.context_length,
        }


def _specific(architecture: str, shape: _Shape) -> tuple[str, dict[str, Any]]:
    """The configuration class of transformers, and its own keyword arguments."""
    table: dict[str, tuple[str, dict[str, Any]]] = {
        "llama": ("LlamaConfig", shape.llama_like()),
        "mistral": ("MistralConfig", shape.llama_like(sliding_window=None)),
        "qwen2": ("Qwen2Config", shape.llama_like()),
        "qwen3": ("Qwen3Config", shape.llama_like(head_dim=shape.hidden_size // 4)),
        "mixtral": ("MixtralConfig", shape.llama_like(num_local_experts=4, num_experts_per_tok=2)),
        "opt": ("OPTConfig", shape.opt()),
        "gpt2": ("GPT2Config", shape.gpt2()),
    }
    return table[architecture]


ARCHITECTURES = ("llama", "qwen2", "qwen3", "opt", "gpt2", "mistral", "mixtral")


def make_config(architecture: str, shape: _Shape, tokenizer: Any) -> Any:
    """A transformers configuration that fits ``tokenizer``."""
    import transformers

    class_name, specific = _specific(architecture, shape)
    return getattr(transformers, class_name)(
        vocab_size=len(tokenizer),
        tie_word_embeddings=shape.tied,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **specific,
    )


def train_tokenizer(vocab_size: int = 512) -> Any:
    """A byte-level BPE tokenizer (any UTF-8 text round-trips) with a beginning, an end, padding and a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[BOS, EOS, PAD, "<|system|>", "<|user|>", "<|assistant|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, pad_token=PAD)
    fast.chat_template = CHAT_TEMPLATE
    return fast


def write_checkpoint(
    directory: Path,
    config: Any,
    tokenizer: Any,
    *,
    dtype: str = "float32",
    seed: int = 0,
    shard_bytes: int | None = None,
) -> None:
    """Writes a Hugging Face directory of ``config``'s model with random weights, as ``save_pretrained`` does.

    ``shard_bytes`` caps the size of one safetensors file; None keeps everything in one.
    """
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype)).eval()
    model.save_pretrained(directory, max_shard_size=shard_bytes or "100GB")
    tokenizer.save_pretrained(directory)


def make_checkpoint(
    directory: Path,
    architecture: str = "llama",
    *,
    tied: bool = False,
    sharded: bool = False,
    dtype: str = "float32",
    hidden_size: int = 64,
    layers: int = 2,
    vocab_size: int = 512,
    context_length: int = 512,
    seed: int = 0,
) -> Path:
    """A Hugging Face directory at ``directory`` (created, the caller's own to change). Returns ``directory``.

    The same arguments give the same bytes, generated once per session. ``vocab_size`` is the most that the tokenizer
    may learn; the model has exactly as many ids as the tokenizer, so every id has text.
    """
    shape = _Shape(hidden_size, layers, vocab_size, context_length, tied)
    shutil.copytree(_cached(architecture, shape, sharded, dtype, seed), directory, dirs_exist_ok=True)
    return directory


@functools.cache
def _cached(architecture: str, shape: _Shape, sharded: bool, dtype: str, seed: int) -> Path:
    directory = _cache_directory() / f"checkpoint-{_cached.cache_info().misses}"
    tokenizer = train_tokenizer(shape.vocab_size)
    config = make_config(architecture, shape, tokenizer)
    write_checkpoint(directory, config, tokenizer, dtype=dtype, seed=seed, shard_bytes=100_000 if sharded else None)
    return directory


@functools.cache
def _cache_directory() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="kindling-test-checkpoints-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory

"""Tokenizers small enough to make in a test, of the two kinds that models have."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

END = "<|end|>"
CORPUS = ["Hello world, this is a test of tokens.", "Grüße aus Köln, 你好世界 😀", "the quick brown fox jumps over it"]
CHAT_TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'assistant' and loop.first %}"
    "{{ raise_exception('A conversation cannot begin with the assistant') }}{% endif %}"
    "<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
)


@cache
def byte_level() -> Tokenizer:
    """Make a tokenizer like GPT-2's, Llama 3's or Qwen's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[END],
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS * 3, trainer)
    return tokenizer


@cache
def sentencepiece_like() -> Tokenizer:
    """Make a tokenizer like Llama 2's or Mistral's: words marked by U+2581, unknown characters as bytes."""
    pieces = sorted({char for text in CORPUS[:1] for char in text.replace(" ", "▁")})
    words = ["▁H", "el", "lo", "▁w", "or"]
    vocabulary = [END, *(f"<0x{byte:02X}>" for byte in range(256)), *pieces]
    vocabulary += [word for word in words if word not in vocabulary]
    merges = [("▁", "H"), ("e", "l"), ("l", "o"), ("▁", "w"), ("o", "r")]
    tokenizer = Tokenizer(
        models.BPE({piece: rank for rank, piece in enumerate(vocabulary)}, merges, byte_fallback=True, fuse_unk=True)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(END, special=True)])
    return tokenizer


@cache
def model_files(tokenizer: Tokenizer, chat_template: str | None = CHAT_TEMPLATE) -> dict[str, bytes]:
    """Return the files that a checkpoint with this tokenizer has."""
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END)
    fast.chat_template = chat_template
    with TemporaryDirectory() as directory:
        fast.save_pretrained(directory)
        return {path.name: path.read_bytes() for path in Path(directory).iterdir()}

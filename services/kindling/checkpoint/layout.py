"""Names and sizes of the packed format: what lies where in a checkpoint's directory."""

import re
from typing import Final

from kindling.platform.errors import InvalidArgumentError

FORMAT_VERSION: Final = 1
DEFAULT_CHUNK_BYTES: Final = 16 * 1024 * 1024
#: Readers hold a whole chunk in memory, so a manifest may not ask for more.
MOST_CHUNK_BYTES: Final = 1024 * 1024 * 1024
#: Data of a partition begins on this boundary, so that O_DIRECT reads and memory maps of it are aligned.
DATA_ALIGNMENT_BYTES: Final = 4096
MANIFEST_FILE: Final = "manifest.json"
TEMPORARY_PREFIX: Final = ".packing-"
DIGEST_PREFIX: Final = "blake3:"
_DIGEST = re.compile(r"blake3:([0-9a-f]{64})")

#: The model's own small files: packed when the source has them.
MODEL_FILES: Final = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
)


def partition_file_name(index: int) -> str:
    """The data file's name of the partition ``index``."""
    return f"partition-{index}.safetensors"


def is_digest(text: str) -> bool:
    """Whether ``text`` is a well-formed digest: ``blake3:`` and 64 lower-case hex digits."""
    return _DIGEST.fullmatch(text) is not None


def directory_name(digest: str) -> str:
    """The directory's name of the checkpoint with this digest: safe on every filesystem, one to one.

    Raises InvalidArgumentError (DIGEST_INVALID) for anything but a well-formed digest, so no path can be smuggled in.
    """
    if not is_digest(digest):
        raise InvalidArgumentError(
            f"{digest[:100]!r} is no checkpoint digest: give 'blake3:' and 64 lower-case hex digits.",
            reason="DIGEST_INVALID",
        )
    return digest.replace(":", "-")


def aligned(length_bytes: int) -> int:
    """``length_bytes`` rounded up to the data alignment."""
    return -(-length_bytes // DATA_ALIGNMENT_BYTES) * DATA_ALIGNMENT_BYTES


def chunk_count(size_bytes: int, chunk_bytes: int) -> int:
    """How many chunks a file of ``size_bytes`` has; the last may be short."""
    return -(-size_bytes // chunk_bytes)

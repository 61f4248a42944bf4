"""Checksums: XXH3-64 for chunks (fast, against corruption), BLAKE3 for identity (against anything)."""

import blake3
import xxhash

from kindling.checkpoint.layout import DIGEST_PREFIX

Buffer = bytes | bytearray | memoryview


def chunk_checksum(buffer: Buffer) -> int:
    """XXH3-64 of a chunk, as the manifest records it."""
    return xxhash.xxh3_64_intdigest(buffer)


class ContentDigest:
    """A running BLAKE3 over a file's bytes."""

    def __init__(self) -> None:
        self._hash = blake3.blake3(max_threads=blake3.blake3.AUTO)

    def update(self, buffer: Buffer) -> None:
        """Appends ``buffer``."""
        self._hash.update(buffer)

    def text(self) -> str:
        """The digest so far: ``blake3:`` and 64 hex digits."""
        return f"{DIGEST_PREFIX}{self._hash.hexdigest()}"


def content_digest(data: bytes) -> str:
    """BLAKE3 of ``data`` as ``blake3:<hex>``."""
    return f"{DIGEST_PREFIX}{blake3.blake3(data).hexdigest()}"

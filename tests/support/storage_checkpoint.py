"""Packed checkpoints of random bytes, made without packing anything."""

import random
from pathlib import Path

from kindling.checkpoint.checksum import chunk_checksum, content_digest
from kindling.checkpoint.layout import MANIFEST_FILE, directory_name, partition_file_name
from kindling.checkpoint.manifest import FileEntry, Manifest, Partition
from kindling.checkpoint.manifest_json import dump_manifest, sealed

CHUNK_BYTES = 64 * 1024
CONFIG = b'{"model_type": "llama"}'


def make_checkpoint(
    store: Path, *, chunks: int = 5, tail_bytes: int = 1234, partitions: int = 1, seed: int = 1, chunk_bytes: int = 0
) -> Manifest:
    """Write a checkpoint of ``chunks`` chunks per partition, the last ``tail_bytes`` long, and return its manifest."""
    chunk_bytes = chunk_bytes or CHUNK_BYTES
    size_bytes = (chunks - 1) * chunk_bytes + tail_bytes
    source = random.Random(seed)
    contents = [source.randbytes(size_bytes) for _ in range(partitions)]
    manifest = sealed(_manifest(contents, chunk_bytes))
    directory = store / directory_name(manifest.digest)
    directory.mkdir(parents=True)
    for index, content in enumerate(contents):
        (directory / partition_file_name(index)).write_bytes(content)
    (directory / "config.json").write_bytes(CONFIG)
    (directory / MANIFEST_FILE).write_bytes(dump_manifest(manifest))
    return manifest


def partition_path(store: Path, manifest: Manifest, partition: int = 0) -> Path:
    """The data file of a checkpoint in ``store``, a remote store or the ``checkpoints`` directory of a cache."""
    return store / directory_name(manifest.digest) / partition_file_name(partition)


def flip_bit(path: Path, offset: int) -> None:
    """Damage one bit of a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def _manifest(contents: list[bytes], chunk_bytes: int) -> Manifest:
    return Manifest(
        digest="",
        architecture="LlamaForCausalLM",
        model_type="llama",
        torch_dtype="bfloat16",
        parameter_count=1,
        context_length=128,
        chunk_bytes=chunk_bytes,
        partitions=tuple(_partition(index, content, chunk_bytes) for index, content in enumerate(contents)),
        files=(FileEntry("config.json", len(CONFIG), content_digest(CONFIG)),),
        tensors=(),
        layers=(),
    )


def _partition(index: int, content: bytes, chunk_bytes: int) -> Partition:
    checksums = [chunk_checksum(content[at : at + chunk_bytes]) for at in range(0, len(content), chunk_bytes)]
    return Partition(partition_file_name(index), len(content), 0, content_digest(content), tuple(checksums))

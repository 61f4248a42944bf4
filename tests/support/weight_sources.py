"""A small checkpoint of two partitions in real memory files, mapped, and every way to place its weights."""

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from kindling.checkpoint.manifest import Manifest, Partition, TensorEntry
from kindling.checkpoint.manifest_json import sealed
from kindling.platform.fd_passing import Extent
from kindling.worker.adapters.arrivals import Arrivals
from kindling.worker.adapters.mapping import PartitionMapping
from kindling.worker.adapters.placement import MakeWeights, PlacedWeights

CHUNK = 2 * mmap.PAGESIZE
SIZES = (3 * CHUNK + 100, 2 * CHUNK - 24)
CHUNKS = 6
NO_DIGEST = "blake3:" + "0" * 64
TENSORS = (
    TensorEntry("embedding", "F32", (64, 32), 4096, 8192, 0),
    TensorEntry("first.a", "BF16", (100,), 12288, 200, 0),
    TensorEntry("first.b", "BF16", (60,), 12488, 120, 0),
    TensorEntry("empty", "F32", (0,), 12608, 0, 0),
    TensorEntry("flags", "BOOL", (16,), 12608, 16, 0),
    TensorEntry("tail", "I64", (10,), 3 * CHUNK + 16, 80, 0),
    TensorEntry("head", "F16", (8, 1000), 80, 16000, 1),
)
CHUNKS_OF = {"embedding": (0, 1), "first.a": (1,), "first.b": (1,), "flags": (1,), "tail": (3,), "head": (4, 5)}


def make_manifest() -> Manifest:
    """The manifest of it; its checksums are made up, since nobody here looks at them."""
    partitions = tuple(
        Partition(f"partition-{index}.safetensors", size, 0, NO_DIGEST, tuple(range(-(-size // CHUNK))))
        for index, size in enumerate(SIZES)
    )
    return sealed(
        Manifest(
            digest=NO_DIGEST,
            architecture="LlamaForCausalLM",
            model_type="llama",
            torch_dtype="float32",
            parameter_count=1,
            context_length=128,
            chunk_bytes=CHUNK,
            partitions=partitions,
            files=(),
            tensors=TENSORS,
            layers=(),
        )
    )


@dataclass
class MappedCheckpoint:
    """Memory files that a test fills chunk by chunk, and a read-only mapping of each partition."""

    manifest: Manifest = field(default_factory=make_manifest)
    arrivals: Arrivals = field(default_factory=lambda: Arrivals(CHUNKS))
    mappings: list[PartitionMapping] = field(default_factory=list)
    fds: list[int] = field(default_factory=list)
    data: list[bytes] = field(default_factory=lambda: [_bytes(size) for size in SIZES])

    def arrive(self, *chunks: int) -> None:
        """Write these chunks, then say that they are there."""
        for chunk in chunks:
            partition = self.manifest.chunk_partition(chunk)
            offset, length = self.manifest.chunk_range(chunk)
            os.pwrite(self.fds[partition], self.data[partition][offset : offset + length], offset)
        self.arrivals.add(chunks)

    def expected(self, name: str) -> torch.Tensor:
        """The tensor as it must be."""
        entry = next(entry for entry in TENSORS if entry.name == name)
        dtypes = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16, "I64": torch.int64}
        raw = torch.frombuffer(bytearray(self.data[entry.partition]), dtype=torch.uint8)
        piece = raw[entry.offset_bytes : entry.end_bytes]
        return piece.view(dtypes.get(entry.dtype, torch.bool)).view(entry.shape)


@contextmanager
def mapped_checkpoint() -> Iterator[MappedCheckpoint]:
    """Nothing of it has arrived yet."""
    checkpoint = MappedCheckpoint()
    for size in SIZES:
        fd = os.memfd_create("partition", os.MFD_CLOEXEC)
        os.ftruncate(fd, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE)
        readable = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
        mapping = PartitionMapping(size)
        mapping.map_extents([Extent(0, size, 0, 0)], [readable])
        os.close(readable)
        checkpoint.fds.append(fd)
        checkpoint.mappings.append(mapping)
    try:
        yield checkpoint
    finally:
        for fd in checkpoint.fds:
            os.close(fd)


def same_bytes(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether shape, dtype and every bit agree, wherever the tensors lie."""
    if (found.shape, found.dtype) != (expected.shape, expected.dtype):
        return False
    return torch.equal(found.cpu().view(torch.uint8), expected.view(torch.uint8))


def place(checkpoint: MappedCheckpoint, make: MakeWeights) -> PlacedWeights:
    """The checkpoint's weights, placed in one of the ways."""
    return make(checkpoint.manifest, checkpoint.mappings, checkpoint.arrivals)


def _bytes(size: int) -> bytes:
    """Small numbers in every dtype: of booleans, only 0 and 1 are such."""
    return bytes(index * 7 % 2 for index in range(size))

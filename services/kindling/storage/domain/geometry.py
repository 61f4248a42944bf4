"""How a checkpoint is cut: partitions, and the chunks of each in execution order."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True, slots=True)
class ChunkSpan:
    """Where a chunk lies in its partition's file, in bytes."""

    partition: int
    file_offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Geometry:
    """A checkpoint's chunks, counted over all partitions, and its partitions' sizes in bytes."""

    chunk_bytes: int
    partition_bytes: tuple[int, ...]
    chunks: tuple[ChunkSpan, ...]
    total_bytes: int

    @classmethod
    def cut(cls, partition_bytes: Sequence[int], chunk_bytes: int) -> "Geometry":
        """Cut each partition into chunks of ``chunk_bytes``, the last one shorter."""
        chunks = tuple(
            ChunkSpan(partition, offset, min(chunk_bytes, size - offset))
            for partition, size in enumerate(partition_bytes)
            for offset in range(0, size, chunk_bytes)
        )
        return cls(chunk_bytes, tuple(partition_bytes), chunks, sum(partition_bytes))

    def chunks_of_head(self, size_bytes: int) -> int:
        """How many chunks the first ``size_bytes`` are in."""
        ends = accumulate(span.length for span in self.chunks)
        return sum(end - span.length < size_bytes for span, end in zip(self.chunks, ends, strict=True))

    def head_bytes(self, chunks: int) -> int:
        """Bytes in the first ``chunks`` chunks."""
        return sum(span.length for span in self.chunks[:chunks])

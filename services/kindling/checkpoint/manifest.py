"""The manifest: what a packed checkpoint holds, where every tensor lies, and how every chunk is verified."""

import enum
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate

from kindling.checkpoint.layout import FORMAT_VERSION, chunk_count
from kindling.platform.errors import OutOfRangeError


class LayerKind(enum.Enum):
    """The part of a model's forward pass that a group of tensors belongs to, in execution order."""

    EMBEDDING = "embedding"
    DECODER = "decoder"
    HEAD = "head"


@dataclass(frozen=True, slots=True)
class Partition:
    """One data file: a valid safetensors file, read in chunks of the manifest's ``chunk_bytes`` (header included).

    ``chunks`` holds the XXH3-64 of each chunk; ``digest`` is the BLAKE3 of the whole file (``blake3:<hex>``).
    """

    file_name: str
    size_bytes: int
    data_offset: int
    digest: str
    chunks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One of the model's small files (config, tokenizer …), by plain file name."""

    path: str
    size_bytes: int
    digest: str


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor: ``dtype`` in safetensors' spelling (``BF16``), ``offset_bytes`` from the start of its file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset_bytes: int
    size_bytes: int
    partition: int

    @property
    def end_bytes(self) -> int:
        """Offset of the first byte after the tensor, within its file."""
        return self.offset_bytes + self.size_bytes


@dataclass(frozen=True, slots=True)
class LayerEntry:
    """The chunks that one step of execution needs, both ends included; neighbours may share a chunk.

    ``name`` is the module path of a decoder layer (``model.layers.0``), else the kind's own name.
    """

    kind: LayerKind
    name: str
    first_chunk: int
    last_chunk: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """A packed checkpoint. ``digest`` covers everything else in here, hence the content of every file.

    Chunks are numbered through all partitions in their order. ``tensors`` are in execution order, which is also the
    order of their bytes; ``layers`` are in execution order.
    """

    digest: str
    architecture: str
    model_type: str
    torch_dtype: str
    parameter_count: int
    context_length: int | None
    chunk_bytes: int
    partitions: tuple[Partition, ...]
    files: tuple[FileEntry, ...]
    tensors: tuple[TensorEntry, ...]
    layers: tuple[LayerEntry, ...]
    format_version: int = FORMAT_VERSION

    @property
    def total_bytes(self) -> int:
        """Size of all data files."""
        return sum(partition.size_bytes for partition in self.partitions)

    @property
    def files_bytes(self) -> int:
        """Size of the model's small files."""
        return sum(file.size_bytes for file in self.files)

    @property
    def chunk_count(self) -> int:
        """Number of chunks in all partitions."""
        return sum(len(partition.chunks) for partition in self.partitions)

    @property
    def checksums(self) -> tuple[int, ...]:
        """XXH3-64 of every chunk, by its number."""
        return tuple(checksum for partition in self.partitions for checksum in partition.chunks)

    def chunk_partition(self, index: int) -> int:
        """The partition that chunk ``index`` belongs to. Raises OutOfRangeError past the end."""
        return self._locate(index)[0]

    def chunk_range(self, index: int) -> tuple[int, int]:
        """(offset, length) in bytes of chunk ``index`` in its partition's file. Raises OutOfRangeError past the end."""
        partition, local = self._locate(index)
        offset = local * self.chunk_bytes
        return offset, min(self.chunk_bytes, self.partitions[partition].size_bytes - offset)

    def chunk_checksum(self, index: int) -> int:
        """The XXH3-64 that chunk ``index`` must have. Raises OutOfRangeError past the end."""
        partition, local = self._locate(index)
        return self.partitions[partition].chunks[local]

    def tensor_chunks(self, tensor: TensorEntry) -> range:
        """Numbers of the chunks that hold ``tensor``'s bytes (of an empty tensor: none)."""
        first = self._first_chunk(tensor.partition)
        last = chunk_count(tensor.end_bytes, self.chunk_bytes)
        return range(first + tensor.offset_bytes // self.chunk_bytes, first + last) if tensor.size_bytes else range(0)

    def _first_chunk(self, partition: int) -> int:
        return sum(len(before.chunks) for before in self.partitions[:partition])

    def _locate(self, index: int) -> tuple[int, int]:
        ends = list(accumulate(len(partition.chunks) for partition in self.partitions))
        if not 0 <= index < (ends[-1] if ends else 0):
            raise OutOfRangeError(
                f"Checkpoint {self.digest} has {self.chunk_count} chunks; there is no chunk {index}.",
                reason="CHUNK_OUT_OF_RANGE",
                metadata={"digest": self.digest, "chunk": str(index)},
            )
        partition = bisect_right(ends, index)
        return partition, index - self._first_chunk(partition)

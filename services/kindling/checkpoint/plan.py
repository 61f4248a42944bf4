"""The plan of a packed file: every byte's place, decided before the first is written."""

import json
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import Self

from kindling.checkpoint.dtype import TORCH_NAMES, element_count
from kindling.checkpoint.header import LENGTH_BYTES, METADATA_KEY, refuse
from kindling.checkpoint.layout import aligned
from kindling.checkpoint.manifest import FileEntry, LayerEntry, Manifest, Partition, TensorEntry
from kindling.checkpoint.manifest_json import sealed
from kindling.checkpoint.order import execution_key, layer_of
from kindling.checkpoint.source import Source
from kindling.checkpoint.source_tensor import SourceTensor, TensorContent
from kindling.checkpoint.tied import without_tied


@dataclass(frozen=True, slots=True)
class _Bytes:
    data: bytes

    def read_into(self, offset: int, into: memoryview) -> None:
        into[:] = self.data[offset : offset + into.nbytes]


@dataclass(frozen=True, slots=True)
class Plan:
    """One partition to be: its header's bytes, then its tensors in execution order, seamless."""

    source: Source
    header: bytes
    tensors: tuple[SourceTensor, ...]
    entries: tuple[TensorEntry, ...]
    chunk_bytes: int

    @classmethod
    def of(cls, source: Source, chunk_bytes: int) -> Self:
        """Lays out ``source``."""
        tensors = tuple(sorted(without_tied(source), key=lambda tensor: execution_key(tensor.name)))
        if any(tensor.name == METADATA_KEY for tensor in tensors):
            refuse(source.directory, "HEADER_INVALID", f"names a tensor {METADATA_KEY}, which safetensors forbids")
        begins = [0, *accumulate(tensor.size_bytes for tensor in tensors)]
        header = _header(tensors, begins)
        placed = zip(tensors, begins, strict=False)
        entries = tuple(_entry(tensor, len(header) + begin) for tensor, begin in placed)
        return cls(source, header, tensors, entries, chunk_bytes)

    @property
    def total_bytes(self) -> int:
        """Size of the data file."""
        return len(self.header) + sum(tensor.size_bytes for tensor in self.tensors)

    def chunks(self) -> Iterator[memoryview]:
        """The file's chunks in order. Each is valid until the next is asked for: one buffer serves all."""
        buffer = memoryview(bytearray(min(self.chunk_bytes, self.total_bytes)))
        filled = 0
        for size_bytes, content in self._segments():
            done = 0
            while done < size_bytes:
                count = min(size_bytes - done, buffer.nbytes - filled)
                content.read_into(done, buffer[filled : filled + count])
                done, filled = done + count, filled + count
                if filled == buffer.nbytes:
                    yield buffer
                    filled = 0
        if filled:
            yield buffer[:filled]

    def manifest(self, partition: Partition, files: tuple[FileEntry, ...]) -> Manifest:
        """The manifest of this plan once written as ``partition`` beside ``files``."""
        config = self.source.config
        return sealed(
            Manifest(
                digest="",
                architecture=config.architecture,
                model_type=config.model_type,
                torch_dtype=config.torch_dtype or self._prevailing_dtype(),
                parameter_count=sum(element_count(tensor.shape) for tensor in self.tensors),
                context_length=config.context_length,
                chunk_bytes=self.chunk_bytes,
                partitions=(partition,),
                files=files,
                tensors=self.entries,
                layers=self._layers(),
            )
        )

    def _segments(self) -> Iterator[tuple[int, TensorContent]]:
        yield len(self.header), _Bytes(self.header)
        for tensor in self.tensors:
            yield tensor.size_bytes, tensor.content

    def _prevailing_dtype(self) -> str:
        sizes: Counter[str] = Counter()
        for tensor in self.tensors:
            sizes[tensor.dtype] += tensor.size_bytes
        dtype = sizes.most_common(1)[0][0]
        return TORCH_NAMES.get(dtype, dtype.lower())

    def _layers(self) -> tuple[LayerEntry, ...]:
        groups = groupby(self.entries, key=lambda entry: layer_of(entry.name))
        last = (self.total_bytes - 1) // self.chunk_bytes
        return tuple(
            LayerEntry(layer.kind, layer.name, *self._chunk_span(list(entries), last)) for layer, entries in groups
        )

    def _chunk_span(self, entries: list[TensorEntry], last: int) -> tuple[int, int]:
        first = min(entries[0].offset_bytes // self.chunk_bytes, last)
        return first, max(first, (entries[-1].end_bytes - 1) // self.chunk_bytes)


def _entry(tensor: SourceTensor, offset_bytes: int) -> TensorEntry:
    return TensorEntry(tensor.name, tensor.dtype, tensor.shape, offset_bytes, tensor.size_bytes, partition=0)


def _header(tensors: tuple[SourceTensor, ...], begins: list[int]) -> bytes:
    """Length, JSON and as many spaces as put the data on the alignment."""
    entries = {
        tensor.name: {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [begin, begin + tensor.size_bytes],
        }
        for tensor, begin in zip(tensors, begins, strict=False)
    }
    # transformers asks for the format before it reads a file.
    text = json.dumps({METADATA_KEY: {"format": "pt"}, **entries}, separators=(",", ":"), ensure_ascii=False).encode()
    padded_bytes = aligned(LENGTH_BYTES + len(text)) - LENGTH_BYTES
    return struct.pack("<Q", padded_bytes) + text.ljust(padded_bytes)

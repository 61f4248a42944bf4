"""Where a leased checkpoint's bytes are handed out from: pool buffers for the head, the SSD copy for the rest."""

from dataclasses import dataclass

from kindling.storage.domain.geometry import Geometry


@dataclass(frozen=True, slots=True)
class MemoryExtent:
    """A chunk in a pool buffer (``buffer`` set), or a piece of the SSD copy of the partition (``buffer`` None)."""

    partition: int
    file_offset: int
    length: int
    buffer: int | None


@dataclass(frozen=True, slots=True)
class Layout:
    """Chunk ``i`` is in ``buffers[i]``; chunks past the last buffer are in the SSD copy."""

    geometry: Geometry
    buffers: tuple[int, ...]

    @property
    def in_dram(self) -> bool:
        """Whether every chunk has a buffer."""
        return len(self.buffers) == len(self.geometry.chunks)

    @property
    def missing_bytes(self) -> int:
        """Bytes of chunks without a buffer."""
        return self.geometry.total_bytes - self.geometry.head_bytes(len(self.buffers))

    def extents(self) -> tuple[MemoryExtent, ...]:
        """The extents of all partitions in file order; neighbours in the SSD copy are one extent."""
        extents = [
            MemoryExtent(span.partition, span.file_offset, span.length, buffer)
            for span, buffer in zip(self.geometry.chunks, self.buffers, strict=False)
        ]
        return (*extents, *self._ssd_extents())

    def _ssd_extents(self) -> list[MemoryExtent]:
        first_of_partition: dict[int, int] = {}
        for span in self.geometry.chunks[len(self.buffers) :]:
            first_of_partition.setdefault(span.partition, span.file_offset)
        sizes = self.geometry.partition_bytes
        return [MemoryExtent(p, offset, sizes[p] - offset, None) for p, offset in first_of_partition.items()]

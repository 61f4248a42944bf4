"""Takes down a partition's checksums while its chunks pass by."""

from kindling.checkpoint.checksum import ContentDigest, chunk_checksum
from kindling.checkpoint.manifest import Partition


class PartitionRecorder:
    """Sees every chunk of one partition, in order, once."""

    def __init__(self, file_name: str, data_offset: int) -> None:
        self._file_name = file_name
        self._data_offset = data_offset
        self._size_bytes = 0
        self._digest = ContentDigest()
        self._chunks: list[int] = []

    @property
    def size_bytes(self) -> int:
        """Bytes seen so far."""
        return self._size_bytes

    @property
    def checksums(self) -> list[int]:
        """Checksums of the chunks seen so far."""
        return self._chunks

    def add(self, chunk: memoryview) -> None:
        """Records the next chunk."""
        self._chunks.append(chunk_checksum(chunk))
        self._digest.update(chunk)
        self._size_bytes += chunk.nbytes

    def partition(self) -> Partition:
        """What was seen."""
        return Partition(self._file_name, self._size_bytes, self._data_offset, self._digest.text(), tuple(self._chunks))

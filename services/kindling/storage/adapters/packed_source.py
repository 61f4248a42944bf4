"""Packed files read on an executor: a ChunkSource for any tier that is a directory."""

from kindling.storage.adapters.io_executor import IoExecutor
from kindling.storage.adapters.packed_files import PackedFiles


class PackedSource:
    """Implements ChunkSource, and the reading half of SsdCopy."""

    def __init__(self, files: PackedFiles, io: IoExecutor, sums: IoExecutor) -> None:
        self._files = files
        self._io = io
        self._sums = sums

    async def read_chunk(self, chunk: int, into: memoryview, *, cached: bool = False) -> None:
        """See ChunkSource."""
        await self._io.run(self._files.read, chunk, into, cached=cached)
        # On a thread of its own, so that the thread that reads has its next read under way meanwhile.
        await self._sums.run(self._files.verify, chunk, into)

    def descriptor(self, partition: int) -> int:
        """See SsdCopy."""
        return self._files.descriptor(partition)

    def close(self) -> None:
        """Close the files."""
        self._files.close()

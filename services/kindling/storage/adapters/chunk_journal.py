"""Which chunks of a copy that is being written were written already.

A line of the journal is a hint, never a promise: what was written before a crash is read back against its checksum
before anybody relies on it, so that neither a torn write nor a torn line can do harm, and nothing waits for the device.
"""

import os
import struct
from pathlib import Path

from kindling.checkpoint.manifest import Manifest

JOURNAL_FILE = "chunks.journal"
_RECORD = struct.Struct("<I")


class ChunkJournal:
    """Chunks are added from several threads at once. Raises OSError like the calls it makes."""

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        self._fd = os.open(directory / JOURNAL_FILE, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        whole_bytes = os.fstat(self._fd).st_size // _RECORD.size * _RECORD.size
        os.ftruncate(self._fd, whole_bytes)  # a record that was cut short would shift those that follow
        noted = {chunk for (chunk,) in _RECORD.iter_unpack(os.pread(self._fd, whole_bytes, 0))}
        self.inherited = frozenset(chunk for chunk in noted if chunk < manifest.chunk_count)

    def add(self, chunk: int) -> None:
        """Note that ``chunk`` was written."""
        os.write(self._fd, _RECORD.pack(chunk))

    def close(self) -> None:
        """Close the file; closing twice is no error."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

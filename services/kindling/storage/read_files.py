"""Reads a checkpoint's small files in pieces."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from kindling.checkpoint.manifest import FileEntry
from kindling.platform.errors import DataLossError
from kindling.storage.tiers import Tiers

PART_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a small file."""

    path: str
    file_bytes: int
    offset: int
    data: bytes


class ReadFiles:
    """Streams small files, never weights."""

    def __init__(self, tiers: Tiers) -> None:
        self._tiers = tiers

    async def read(self, digest: str) -> AsyncIterator[Part]:
        """Yield the files in the manifest's order, each in pieces of at most 1 MiB; an empty file is one empty piece.

        Raises NotFoundError (CHECKPOINT_NOT_FOUND), or DataLossError (FILE_UNREADABLE).
        """
        known = await self._tiers.catalog.get(digest)
        directory = await self._tiers.keep_files(known)
        for entry in known.manifest.files:
            data = await asyncio.to_thread(_read, directory / entry.path, entry)
            for offset in range(0, max(1, len(data)), PART_BYTES):
                yield Part(entry.path, len(data), offset, data[offset : offset + PART_BYTES])


def _read(path: Path, entry: FileEntry) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, str(error.strerror)) from error
    if len(data) != entry.size_bytes:
        raise _unreadable(path, f"it has {len(data)} bytes instead of {entry.size_bytes}")
    return data


def _unreadable(path: Path, why: str) -> DataLossError:
    return DataLossError(
        f"{path} cannot be used: {why}; deploy the model again from its source",
        reason="FILE_UNREADABLE",
        metadata={"file": str(path)},
    )

"""What the links of this machine are measured with."""

import ctypes
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from kindling.storage.adapters.direct_file import DirectFile
from kindling.storage.adapters.io_executor import IoExecutor
from kindling.storage.adapters.packed_files import ssd_trouble

_SCRATCH_BYTES = 64 << 20
_PIECE_BYTES = 8 << 20
_SCRATCH_FILE = "link-probe.scratch"


class FileUnderTest:
    """Implements ProbeFile."""

    def __init__(self, file: DirectFile, io: IoExecutor) -> None:
        self._file = file
        self._io = io
        self.size_bytes = file.size_bytes()

    async def read(self, offset: int, into: memoryview) -> int:
        """See ProbeFile."""
        length = min(len(into), self.size_bytes - offset)
        await self._io.run(self._file.read, into, length, offset)
        return length


class MachineProbe:
    """Implements LinkProbe on the disk of ``cache_dir``."""

    def __init__(self, cache_dir: Path, io: IoExecutor) -> None:
        self._cache_dir = cache_dir
        self._io = io

    async def prepare(self, views: list[memoryview]) -> None:
        """See LinkProbe."""
        for view in views:
            await self._io.run(_fill, view)

    async def copy(self, source: memoryview, target: memoryview) -> None:
        """See LinkProbe."""
        await self._io.run(_copy, source, target)

    @asynccontextmanager
    async def ssd_file(self, enough_bytes: int) -> AsyncIterator[FileUnderTest]:
        """See LinkProbe. What is cached already is read, else a scratch file that is written for it."""
        try:
            path = await self._io.run(self._find_or_write, enough_bytes)
            file = await self._io.acquire(lambda: DirectFile(path), DirectFile.close)
        except OSError as error:
            raise ssd_trouble(error, self._cache_dir) from error
        try:
            yield FileUnderTest(file, self._io)
        except OSError as error:
            raise ssd_trouble(error, path) from error
        finally:
            file.close()
            if path.name == _SCRATCH_FILE:
                path.unlink(missing_ok=True)

    def _find_or_write(self, enough_bytes: int) -> Path:
        sizes = [(_size(path), path) for path in self._cache_dir.glob("checkpoints/*/*.safetensors")]
        size_bytes, path = max(sizes, default=(0, self._cache_dir / _SCRATCH_FILE))
        if size_bytes >= min(enough_bytes, _SCRATCH_BYTES):
            return path
        return _write_scratch(self._cache_dir / _SCRATCH_FILE)


def _write_scratch(path: Path) -> Path:
    piece = os.urandom(_PIECE_BYTES)  # some disks hold zeros for nothing
    try:
        with path.open("wb", buffering=0) as file:
            for _ in range(_SCRATCH_BYTES // _PIECE_BYTES):
                file.write(piece)
            os.fsync(file.fileno())
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return path


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0


def _fill(view: memoryview) -> None:
    target = ctypes.c_char.from_buffer(view)
    ctypes.memset(ctypes.addressof(target), 0, len(view))


def _copy(source: memoryview, target: memoryview) -> None:
    here, there = ctypes.c_char.from_buffer(source), ctypes.c_char.from_buffer(target)
    ctypes.memmove(ctypes.addressof(there), ctypes.addressof(here), len(source))

"""The REMOTE tier as a directory that all nodes share (``file://``)."""

import shutil
from contextlib import suppress
from pathlib import Path

from kindling.checkpoint import Manifest, directory_name, pack, sweep_temporaries
from kindling.checkpoint.architectures import SUPPORTED_ARCHITECTURES
from kindling.storage.adapters.io_executor import IoExecutor
from kindling.storage.adapters.manifest_file import read_manifest
from kindling.storage.adapters.packed_files import PackedFiles
from kindling.storage.adapters.packed_source import PackedSource
from kindling.storage.ports import PackOrder

_DELETING = ".deleting-"


class RemoteDirectory:
    """Implements RemoteStore. ``io`` reads; packing has a thread of its own, so that it never holds up a load."""

    def __init__(self, root: Path, io: IoExecutor, sums: IoExecutor, packer: IoExecutor) -> None:
        self._root = root
        self._io = io
        self._sums = sums
        self._packer = packer

    def require_writable(self) -> None:
        """See RemoteStore. What forbids writing shows when it is tried."""

    async def recover(self) -> None:
        """See RemoteStore."""
        await self._io.run(_recover, self._root)

    async def manifest(self, digest: str) -> Manifest:
        """See RemoteStore."""
        return await self._io.run(read_manifest, self._root / directory_name(digest), digest)

    async def open(self, manifest: Manifest) -> PackedSource:
        """See RemoteStore."""
        directory = self._root / directory_name(manifest.digest)
        files = await self._io.acquire(lambda: PackedFiles.open(directory, manifest), PackedFiles.close)
        return PackedSource(files, self._io, self._sums)

    async def files_directory(self, manifest: Manifest) -> Path:
        """See RemoteStore."""
        return self._root / directory_name(manifest.digest)

    async def delete(self, digest: str) -> bool:
        """See RemoteStore."""
        return await self._io.run(_delete, self._root / directory_name(digest))

    async def used_bytes(self) -> int:
        """See RemoteStore."""
        return await self._io.run(_used_bytes, self._root)

    async def pack(self, source: Path, order: PackOrder) -> Manifest:
        """See RemoteStore."""
        return await self._packer.run(
            pack,
            source,
            self._root,
            chunk_bytes=order.chunk_bytes,
            allow_pickle=order.allow_pickle,
            supported=SUPPORTED_ARCHITECTURES.__contains__,
            on_progress=order.on_progress,
            cancelled=order.cancelled,
        )


def _used_bytes(root: Path) -> int:
    total_bytes = 0
    for path in root.glob("*/*"):
        with suppress(OSError):  # another node deletes it
            total_bytes += path.stat().st_size
    return total_bytes


def _recover(root: Path) -> None:
    sweep_temporaries(root)
    for leftover in root.glob(f"{_DELETING}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _delete(directory: Path) -> bool:
    if not directory.is_dir():
        return False
    # Other nodes must see all of it or nothing.
    doomed = directory.with_name(_DELETING + directory.name)
    shutil.rmtree(doomed, ignore_errors=True)
    directory.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)
    return True

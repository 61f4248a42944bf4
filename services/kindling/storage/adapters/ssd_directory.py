"""The SSD tier: a node's cache directory.

``checkpoints/NAME`` holds a sealed copy's manifest and data files, ``checkpoints/NAME.partial`` one that is being
written, ``checkpoints/NAME.quarantined`` one that was found bad; ``files/NAME`` the model's small files.
"""

import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path

from kindling.checkpoint.layout import MANIFEST_FILE, directory_name
from kindling.checkpoint.manifest import Manifest
from kindling.checkpoint.manifest_json import dump_manifest
from kindling.platform.errors import KindlingError
from kindling.platform.logging import get_logger
from kindling.storage.adapters.direct_file import DirectFile
from kindling.storage.adapters.io_executor import IoExecutor
from kindling.storage.adapters.manifest_file import read_manifest
from kindling.storage.adapters.packed_files import PackedFiles, ssd_trouble
from kindling.storage.adapters.packed_source import PackedSource

log = get_logger(__name__)
_PARTIAL = ".partial"
_DELETING = ".deleting"
_QUARANTINED = ".quarantined"


class SealedCopy(PackedSource):
    """A complete copy, read only but for repairs."""

    async def write_chunk(self, chunk: int, data: memoryview, *, cached: bool = False) -> None:
        """Replace a bad chunk, durably."""
        await self._io.run(_repair, self._files, chunk, data, cached=cached)

    async def seal(self) -> None:
        """Nothing is left to do."""

    async def discard(self) -> None:
        """A sealed copy stays."""


class PartialCopy(PackedSource):
    """A copy that is being written; it becomes findable when sealed."""

    async def write_chunk(self, chunk: int, data: memoryview, *, cached: bool = False) -> None:
        """See SsdCopy."""
        await self._io.run(self._files.write, chunk, data, cached=cached)

    async def seal(self) -> None:
        """See SsdCopy."""
        await self._io.run(_seal, self._files)

    async def discard(self) -> None:
        """See SsdCopy."""
        self._files.close()
        await self._io.run(shutil.rmtree, self._files.directory, ignore_errors=True)


class SsdDirectory:
    """Implements SsdStore on a directory that no other process uses."""

    def __init__(self, root: Path, io: IoExecutor) -> None:
        self._copies = root / "checkpoints"
        self._files = root / "files"
        self._io = io

    async def scan(self) -> list[Manifest]:
        """See SsdStore."""
        return await self._io.run(self._scan)

    async def open(self, manifest: Manifest) -> SealedCopy:
        """See SsdStore."""
        directory = self._copies / directory_name(manifest.digest)
        files = await self._io.acquire(lambda: PackedFiles.open(directory, manifest), PackedFiles.close)
        return SealedCopy(files, self._io)

    async def create(self, manifest: Manifest) -> PartialCopy:
        """See SsdStore."""
        return PartialCopy(await self._io.acquire(lambda: self._create(manifest), PackedFiles.close), self._io)

    async def keep_files(self, manifest: Manifest, source: Path) -> Path:
        """See SsdStore."""
        target = self._files / directory_name(manifest.digest)
        await self._io.run(_copy_files, manifest, source, target)
        return target

    async def delete(self, digest: str) -> None:
        """See SsdStore."""
        await self._io.run(_remove_tree, self._copies / directory_name(digest))

    async def forget_files(self, digest: str) -> None:
        """See SsdStore."""
        await self._io.run(_remove_tree, self._files / directory_name(digest))

    async def quarantine(self, digest: str) -> None:
        """See SsdStore."""
        await self._io.run(_quarantine, self._copies / directory_name(digest))

    def available_bytes(self) -> int:
        """See SsdStore."""
        return shutil.disk_usage(self._copies).free

    def _scan(self) -> list[Manifest]:
        for directory in (self._copies, self._files):
            directory.mkdir(parents=True, exist_ok=True)
            for leftover in (*directory.glob(f"*{_PARTIAL}"), *directory.glob(f"*{_DELETING}")):
                shutil.rmtree(leftover, ignore_errors=True)
        sealed = [path for path in self._copies.iterdir() if path.is_dir() and path.suffix != _QUARANTINED]
        sealed.sort(key=lambda path: path.stat().st_mtime)
        return [manifest for manifest in map(_recognise, sealed) if manifest is not None]

    def _create(self, manifest: Manifest) -> PackedFiles:
        directory = self._copies / (directory_name(manifest.digest) + _PARTIAL)
        shutil.rmtree(directory, ignore_errors=True)
        try:
            directory.mkdir()
            (directory / MANIFEST_FILE).write_bytes(dump_manifest(manifest))
            return PackedFiles.create(directory, manifest)
        except OSError as error:
            shutil.rmtree(directory, ignore_errors=True)
            raise ssd_trouble(error, directory) from error
        except KindlingError:
            shutil.rmtree(directory, ignore_errors=True)
            raise


def _recognise(directory: Path) -> Manifest | None:
    """Return the manifest of a copy that looks whole; one that does not is put aside."""
    try:
        manifest = read_manifest(directory, directory.name.replace("-", ":", 1))
        PackedFiles.open(directory, manifest).close()
    except (KindlingError, OSError) as error:
        log.warning("ssd_copy_rejected", directory=str(directory), error=str(error))
        _quarantine(directory)
        return None
    return manifest


def _seal(files: PackedFiles) -> None:
    files.sync()
    _sync_directory(files.directory)
    final = files.directory.with_suffix("")
    shutil.rmtree(final, ignore_errors=True)
    files.directory.rename(final)
    files.directory = final
    _sync_directory(final.parent)


def _repair(files: PackedFiles, chunk: int, data: memoryview, *, cached: bool) -> None:
    manifest = files.manifest
    offset, _ = manifest.chunk_range(chunk)
    path = files.directory / manifest.partitions[manifest.chunk_partition(chunk)].file_name
    file = DirectFile(path, writable=True)
    try:
        file.write(data, offset, cached=cached)
        file.sync()
    except OSError as error:
        raise ssd_trouble(error, path) from error
    finally:
        file.close()


def _copy_files(manifest: Manifest, source: Path, target: Path) -> None:
    if target.is_dir():
        return
    partial = target.with_name(target.name + _PARTIAL)
    try:
        partial.mkdir(exist_ok=True)
        for entry in manifest.files:
            shutil.copyfile(source / entry.path, partial / entry.path)
        (partial / MANIFEST_FILE).write_bytes(dump_manifest(manifest))
        partial.rename(target)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise ssd_trouble(error, target) from error


def _remove_tree(directory: Path) -> None:
    with suppress(FileNotFoundError):
        # Out of sight at once: a crash half-way leaves a leftover that the next scan drops.
        doomed = directory.with_name(f"{directory.name}.{secrets.token_hex(4)}{_DELETING}")
        directory.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def _quarantine(directory: Path) -> None:
    aside = directory.with_name(directory.name + _QUARANTINED)
    shutil.rmtree(aside, ignore_errors=True)
    with suppress(FileNotFoundError):
        directory.rename(aside)


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

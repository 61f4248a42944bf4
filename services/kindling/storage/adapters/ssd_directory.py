"""The SSD tier: a node's cache directory.

``checkpoints/NAME`` holds a sealed copy's manifest and data files, ``checkpoints/NAME.partial`` one that is being
written or waits to be gone on with, ``checkpoints/NAME.quarantined`` one that was found bad; ``files/NAME`` the
model's small files.
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
from kindling.storage.adapters.chunk_journal import JOURNAL_FILE, ChunkJournal
from kindling.storage.adapters.direct_file import DirectFile
from kindling.storage.adapters.io_executor import IoExecutor
from kindling.storage.adapters.manifest_file import read_manifest
from kindling.storage.adapters.packed_files import PackedFiles, ssd_trouble
from kindling.storage.adapters.packed_source import PackedSource
from kindling.storage.ports import FoundCopy

log = get_logger(__name__)
_PARTIAL = ".partial"
_DELETING = ".deleting"
_QUARANTINED = ".quarantined"


class SealedCopy(PackedSource):
    """A complete copy, read only but for repairs."""

    def has_chunk(self, _chunk: int) -> bool:
        """Everything is here."""
        return True

    async def write_chunk(self, chunk: int, data: memoryview, *, cached: bool = False) -> None:
        """Replace a bad chunk, durably."""
        await self._io.run(_repair, self._files, chunk, data, cached=cached)

    async def seal(self) -> None:
        """Nothing is left to do."""

    async def discard(self) -> None:
        """A sealed copy stays."""


class PartialCopy(PackedSource):
    """A copy that is being written; it becomes findable when sealed, and can be gone on with when it is not."""

    def __init__(self, files: PackedFiles, journal: ChunkJournal, io: IoExecutor, sums: IoExecutor) -> None:
        super().__init__(files, io, sums)
        self._journal = journal

    def has_chunk(self, chunk: int) -> bool:
        """Whether an earlier load says that it wrote the chunk."""
        return chunk in self._journal.inherited

    async def write_chunk(self, chunk: int, data: memoryview, *, cached: bool = False) -> None:
        """See SsdCopy."""
        await self._io.run(self._write, chunk, data, cached=cached)

    def _write(self, chunk: int, data: memoryview, *, cached: bool) -> None:
        self._files.write(chunk, data, cached=cached)
        with suppress(OSError):  # the next load will write the chunk again, that is all
            self._journal.add(chunk)

    async def seal(self) -> None:
        """See SsdCopy."""
        await self._io.run(_seal, self._files)

    async def discard(self) -> None:
        """See SsdCopy."""
        self.close()
        await self._io.run(shutil.rmtree, self._files.directory, ignore_errors=True)

    def close(self) -> None:
        """Close the files."""
        super().close()
        self._journal.close()


class SsdDirectory:
    """Implements SsdStore on a directory that no other process uses."""

    def __init__(self, root: Path, io: IoExecutor, sums: IoExecutor) -> None:
        self._copies = root / "checkpoints"
        self._files = root / "files"
        self._io = io
        self._sums = sums

    async def scan(self) -> list[FoundCopy]:
        """See SsdStore."""
        return await self._io.run(self._scan)

    async def open(self, manifest: Manifest) -> SealedCopy:
        """See SsdStore."""
        directory = self._copies / directory_name(manifest.digest)
        files = await self._io.acquire(lambda: PackedFiles.open(directory, manifest), PackedFiles.close)
        return SealedCopy(files, self._io, self._sums)

    async def create(self, manifest: Manifest) -> PartialCopy:
        """See SsdStore."""
        return await self._io.acquire(lambda: self._create(manifest), PartialCopy.close)

    async def resume(self, manifest: Manifest) -> PartialCopy:
        """See SsdStore."""
        return await self._io.acquire(lambda: self._resume(manifest), PartialCopy.close)

    async def keep_files(self, manifest: Manifest, source: Path) -> Path:
        """See SsdStore."""
        target = self._files / directory_name(manifest.digest)
        await self._io.run(_copy_files, manifest, source, target)
        return target

    async def delete(self, digest: str) -> None:
        """See SsdStore."""
        name = directory_name(digest)
        await self._io.run(_remove_tree, self._copies / name)
        await self._io.run(_remove_tree, self._copies / (name + _PARTIAL))

    async def forget_files(self, digest: str) -> None:
        """See SsdStore."""
        await self._io.run(_remove_tree, self._files / directory_name(digest))

    async def quarantine(self, digest: str) -> None:
        """See SsdStore."""
        await self._io.run(_quarantine, self._copies / directory_name(digest))

    def available_bytes(self) -> int:
        """See SsdStore."""
        return shutil.disk_usage(self._copies).free

    def _scan(self) -> list[FoundCopy]:
        for directory in (self._copies, self._files):
            directory.mkdir(parents=True, exist_ok=True)
            for leftover in (*directory.glob(f"*{_DELETING}"), *self._files.glob(f"*{_PARTIAL}")):
                shutil.rmtree(leftover, ignore_errors=True)
        copies = [path for path in self._copies.iterdir() if path.is_dir() and path.suffix != _QUARANTINED]
        copies.sort(key=lambda path: path.stat().st_mtime)
        return [copy for copy in map(_recognise, copies) if copy is not None]

    def _create(self, manifest: Manifest) -> PartialCopy:
        directory = self._partial(manifest)
        shutil.rmtree(directory, ignore_errors=True)
        try:
            directory.mkdir()
            (directory / MANIFEST_FILE).write_bytes(dump_manifest(manifest))
            files = PackedFiles.create(directory, manifest)
            return PartialCopy(files, ChunkJournal(directory, manifest), self._io, self._sums)
        except OSError as error:
            shutil.rmtree(directory, ignore_errors=True)
            raise ssd_trouble(error, directory) from error
        except KindlingError:
            shutil.rmtree(directory, ignore_errors=True)
            raise

    def _resume(self, manifest: Manifest) -> PartialCopy:
        directory = self._partial(manifest)
        files = PackedFiles.open(directory, manifest, writable=True)
        try:
            return PartialCopy(files, ChunkJournal(directory, manifest), self._io, self._sums)
        except OSError as error:
            files.close()
            raise ssd_trouble(error, directory) from error

    def _partial(self, manifest: Manifest) -> Path:
        return self._copies / (directory_name(manifest.digest) + _PARTIAL)


def _recognise(directory: Path) -> FoundCopy | None:
    """Return a copy that looks as it should. A sealed one that does not is put aside, an unsealed one deleted."""
    sealed = directory.suffix != _PARTIAL
    try:
        manifest = read_manifest(directory, directory.name.removesuffix(_PARTIAL).replace("-", ":", 1))
        PackedFiles.open(directory, manifest).close()
    except (KindlingError, OSError) as error:
        log.warning("ssd_copy_rejected", directory=str(directory), error=str(error))
        _quarantine(directory) if sealed else shutil.rmtree(directory, ignore_errors=True)
        return None
    return FoundCopy(manifest, sealed)


def _seal(files: PackedFiles) -> None:
    final = files.directory.with_suffix("")
    try:
        files.sync()
        _sync_directory(files.directory)
        shutil.rmtree(final, ignore_errors=True)
        files.directory.rename(final)
        files.directory = final
        _sync_directory(final.parent)
        (final / JOURNAL_FILE).unlink(missing_ok=True)
    except OSError as error:
        raise ssd_trouble(error, final) from error


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

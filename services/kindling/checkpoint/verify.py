"""Checking a packed checkpoint on disk, byte for byte, with a report instead of an error."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kindling.checkpoint.checksum import content_digest
from kindling.checkpoint.files import reading
from kindling.checkpoint.layout import MANIFEST_FILE
from kindling.checkpoint.manifest import Manifest
from kindling.checkpoint.manifest_json import load_manifest
from kindling.checkpoint.progress import Progress
from kindling.checkpoint.reader import PackedCheckpoint
from kindling.platform.errors import KindlingError


@dataclass(frozen=True, slots=True)
class VerificationReport:
    """What is wrong with a checkpoint. ``manifest`` is None where ``problem`` says why it cannot be read."""

    manifest: Manifest | None
    problem: str = ""
    missing_files: tuple[str, ...] = ()
    bad_files: tuple[str, ...] = ()
    bad_chunks: tuple[int, ...] = ()

    @property
    def is_intact(self) -> bool:
        """Whether every byte is as the manifest says."""
        return self.manifest is not None and not (self.missing_files or self.bad_files or self.bad_chunks)


def verify(
    directory: Path,
    *,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> VerificationReport:
    """Reads all of the packed checkpoint at ``directory``. Blocking; bad content is reported, not raised.

    A missing data file is one missing file and not a list of all its chunks; one of a wrong length is a bad file, and
    its chunks are checked all the same. Raises CancelledError alone.
    """
    try:
        with reading(directory / MANIFEST_FILE):
            manifest = load_manifest((directory / MANIFEST_FILE).read_bytes())
    except KindlingError as error:
        return VerificationReport(None, problem=error.message)
    names = [file.path for file in manifest.files] + [partition.file_name for partition in manifest.partitions]
    missing = tuple(name for name in names if not (directory / name).is_file())
    checkpoint = PackedCheckpoint(directory, manifest)
    return VerificationReport(
        manifest,
        missing_files=missing,
        bad_files=tuple(name for name in _bad_files(checkpoint) if name not in missing),
        bad_chunks=_bad_chunks(checkpoint, missing, Progress(on_progress, cancelled)),
    )


def _bad_files(checkpoint: PackedCheckpoint) -> list[str]:
    directory, manifest = checkpoint.directory, checkpoint.manifest
    bad = [file.path for file in manifest.files if _digest_of(directory / file.path) != file.digest]
    sizes = ((partition.file_name, partition.size_bytes) for partition in manifest.partitions)
    return bad + [name for name, size_bytes in sizes if _size_of(directory / name) != size_bytes]


def _digest_of(path: Path) -> str:
    try:
        return content_digest(path.read_bytes())
    except OSError:
        return ""


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _bad_chunks(checkpoint: PackedCheckpoint, missing: tuple[str, ...], progress: Progress) -> tuple[int, ...]:
    manifest = checkpoint.manifest
    buffer = memoryview(bytearray(min(manifest.chunk_bytes, manifest.total_bytes)))
    bad = []
    done_bytes = 0
    for index in range(manifest.chunk_count):
        is_there = manifest.partitions[manifest.chunk_partition(index)].file_name not in missing
        if is_there and not _is_good(checkpoint, index, buffer):
            bad.append(index)
        done_bytes += manifest.chunk_range(index)[1]
        progress.report(done_bytes, manifest.total_bytes)
    return tuple(bad)


def _is_good(checkpoint: PackedCheckpoint, index: int, buffer: memoryview) -> bool:
    try:
        return checkpoint.verify_chunk(index, buffer[: checkpoint.read_chunk(index, buffer)])
    except KindlingError:
        return False

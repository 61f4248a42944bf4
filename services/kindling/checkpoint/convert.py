"""Packing: a source becomes a checkpoint of a store."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from kindling.checkpoint.checksum import content_digest
from kindling.checkpoint.copy import copy_packed
from kindling.checkpoint.files import reading, require_space, write_file, writing
from kindling.checkpoint.layout import (
    DATA_ALIGNMENT_BYTES,
    DEFAULT_CHUNK_BYTES,
    MANIFEST_FILE,
    MOST_CHUNK_BYTES,
    TEMPORARY_PREFIX,
    partition_file_name,
)
from kindling.checkpoint.manifest import FileEntry, Manifest
from kindling.checkpoint.plan import Plan
from kindling.checkpoint.progress import Progress
from kindling.checkpoint.reader import PackedCheckpoint
from kindling.checkpoint.recorder import PartitionRecorder
from kindling.checkpoint.source import open_source
from kindling.checkpoint.writer import commit, temporary_directory, write_chunks
from kindling.platform.errors import DataLossError, FailedPreconditionError, InvalidArgumentError, NotFoundError

#: Room for the manifest and the directory itself, beside the files.
_SLACK_BYTES = 1024 * 1024


def _any_architecture(_architecture: str) -> bool:
    return True


def _never() -> bool:
    return False


def _unreported(_done: int, _total: int) -> None:
    return


def pack(
    source: Path,
    store: Path,
    *,
    chunk_bytes: int = DEFAULT_CHUNK_BYTES,
    allow_pickle: bool = False,
    supported: Callable[[str], bool] = _any_architecture,
    on_progress: Callable[[int, int], None] = _unreported,
    cancelled: Callable[[], bool] = _never,
) -> Manifest:
    """Packs the directory ``source`` into ``<store>/<directory_name(digest)>`` and returns the manifest. Blocking.

    A Hugging Face directory is converted; a packed checkpoint is verified and copied as it is. The directory appears
    complete and durable, or not at all; content that is there already is left as it is. ``on_progress`` gets bytes
    done and in all, ``cancelled`` is asked at every chunk.

    Raises what ``open_source`` raises for bad sources, ResourceExhaustedError (DISK_FULL), CancelledError,
    DataLossError where a packed source is corrupt, UnavailableError (STORE_WRITE_FAILED).
    """
    progress = Progress(on_progress, cancelled)
    if os.path.lexists(source / MANIFEST_FILE):
        return copy_packed(source, store, progress)
    _require_chunk_size(chunk_bytes)
    with open_source(source, allow_pickle=allow_pickle, supported=supported) as opened:
        plan = Plan.of(opened, chunk_bytes)
        files = _model_files(opened.model_files)
        return _existing(plan, files, store, progress) or _write(plan, files, store, progress)


def _require_chunk_size(chunk_bytes: int) -> None:
    if not 0 < chunk_bytes <= MOST_CHUNK_BYTES or chunk_bytes % DATA_ALIGNMENT_BYTES:
        raise InvalidArgumentError(
            f"A chunk of {chunk_bytes} bytes is not possible: give a multiple of {DATA_ALIGNMENT_BYTES} up to "
            f"{MOST_CHUNK_BYTES}.",
            reason="CHUNK_SIZE_INVALID",
            field="chunk_bytes",
        )


def _model_files(paths: tuple[Path, ...]) -> dict[str, bytes]:
    files = {}
    for path in paths:
        with reading(path):
            files[path.name] = path.read_bytes()
    return files


def _entries(files: dict[str, bytes]) -> tuple[FileEntry, ...]:
    return tuple(FileEntry(name, len(data), content_digest(data)) for name, data in sorted(files.items()))


def _existing(plan: Plan, files: dict[str, bytes], store: Path, progress: Progress) -> Manifest | None:
    """The manifest of a complete checkpoint with this very content, found without writing anything."""
    for candidate in _candidates(plan, _entries(files), store):
        recorder = PartitionRecorder(partition_file_name(0), len(plan.header))
        for chunk in plan.chunks():
            recorder.add(chunk)
            if recorder.checksums[-1] != candidate.checksums[len(recorder.checksums) - 1]:
                break  # another fine-tune of the same shape: no need to read the rest
            progress.report(recorder.size_bytes, plan.total_bytes)
        if candidate.partitions == (recorder.partition(),):
            return candidate
    return None


def _candidates(plan: Plan, files: tuple[FileEntry, ...], store: Path) -> Iterator[Manifest]:
    directories = sorted(store.iterdir()) if store.is_dir() else []
    for directory in directories:
        if directory.name.startswith(TEMPORARY_PREFIX):
            continue
        try:
            manifest = PackedCheckpoint.open(directory).manifest
        except (NotFoundError, DataLossError, FailedPreconditionError, InvalidArgumentError):
            continue
        expected = (plan.entries, files, plan.chunk_bytes, plan.total_bytes)
        if (manifest.tensors, manifest.files, manifest.chunk_bytes, manifest.total_bytes) == expected:
            yield manifest


def _write(plan: Plan, files: dict[str, bytes], store: Path, progress: Progress) -> Manifest:
    needed_bytes = plan.total_bytes + sum(map(len, files.values())) + _SLACK_BYTES
    recorder = PartitionRecorder(partition_file_name(0), len(plan.header))
    with writing(store, needed_bytes), temporary_directory(store) as temporary:
        require_space(store, needed_bytes)
        write_chunks(temporary / partition_file_name(0), _recorded(plan, recorder, progress))
        for name, data in files.items():
            write_file(temporary / name, data)
        manifest = plan.manifest(recorder.partition(), _entries(files))
        commit(temporary, store, manifest)
    return manifest


def _recorded(plan: Plan, recorder: PartitionRecorder, progress: Progress) -> Iterator[memoryview]:
    for chunk in plan.chunks():
        recorder.add(chunk)
        yield chunk
        progress.report(recorder.size_bytes, plan.total_bytes)

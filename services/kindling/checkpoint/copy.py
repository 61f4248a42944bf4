"""Copying a packed checkpoint into a store, verified on the way."""

from collections.abc import Iterator
from pathlib import Path

from kindling.checkpoint.checksum import content_digest
from kindling.checkpoint.files import reading, require_space, write_file, writing
from kindling.checkpoint.manifest import FileEntry, Manifest
from kindling.checkpoint.progress import Progress
from kindling.checkpoint.reader import PackedCheckpoint
from kindling.checkpoint.recorder import PartitionRecorder
from kindling.checkpoint.writer import commit, find_checkpoint, temporary_directory, write_chunks
from kindling.platform.errors import DataLossError

_SLACK_BYTES = 1024 * 1024


def copy_packed(directory: Path, store: Path, progress: Progress) -> Manifest:
    """Copies the packed checkpoint at ``directory`` into ``store``; every digest is verified, the manifest is kept.

    Raises DataLossError (CHUNK_CORRUPT, FILE_CORRUPT, DIGEST_MISMATCH) naming what is wrong; nothing is stored then.
    """
    source = PackedCheckpoint.open(directory)
    manifest = source.manifest
    if (existing := find_checkpoint(store, manifest.digest)) is not None:
        return existing.manifest
    needed_bytes = manifest.total_bytes + manifest.files_bytes + _SLACK_BYTES
    with writing(store, needed_bytes), temporary_directory(store) as temporary:
        require_space(store, needed_bytes)
        for file in manifest.files:
            write_file(temporary / file.path, _verified_file(directory / file.path, file))
        for index in range(len(manifest.partitions)):
            _copy_partition(source, index, temporary, progress)
        commit(temporary, store, manifest)
    return manifest


def _copy_partition(source: PackedCheckpoint, index: int, temporary: Path, progress: Progress) -> None:
    expected = source.manifest.partitions[index]
    recorder = PartitionRecorder(expected.file_name, expected.data_offset)
    write_chunks(temporary / expected.file_name, _verified_chunks(source, index, recorder, progress))
    if recorder.partition() != expected:
        raise DataLossError(
            f"{source.partition_path(index)} does not have the digest that its manifest says. Pack it again.",
            reason="DIGEST_MISMATCH",
            metadata={"file": str(source.partition_path(index))},
        )


def _verified_chunks(
    source: PackedCheckpoint, partition: int, recorder: PartitionRecorder, progress: Progress
) -> Iterator[memoryview]:
    manifest = source.manifest
    before_bytes = sum(earlier.size_bytes for earlier in manifest.partitions[:partition])
    buffer = memoryview(bytearray(min(manifest.chunk_bytes, manifest.partitions[partition].size_bytes)))
    for index in range(manifest.chunk_count):
        if manifest.chunk_partition(index) != partition:
            continue
        chunk = buffer[: source.read_chunk(index, buffer)]
        if not source.verify_chunk(index, chunk):
            raise _corrupt_chunk(source.partition_path(partition), index)
        recorder.add(chunk)
        yield chunk
        progress.report(before_bytes + recorder.size_bytes, manifest.total_bytes)


def _corrupt_chunk(path: Path, index: int) -> DataLossError:
    return DataLossError(
        f"Chunk {index} of {path} is corrupt: its checksum is wrong. Fetch the checkpoint again, or pack it again.",
        reason="CHUNK_CORRUPT",
        metadata={"file": str(path), "chunk": str(index)},
    )


def _verified_file(path: Path, expected: FileEntry) -> bytes:
    with reading(path):
        data = path.read_bytes()
    if content_digest(data) != expected.digest:
        raise DataLossError(
            f"{path} is corrupt: its digest is wrong. Fetch the checkpoint again, or pack it again.",
            reason="FILE_CORRUPT",
            metadata={"file": str(path)},
        )
    return data

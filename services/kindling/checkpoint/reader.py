"""Reading a packed checkpoint, chunk by chunk."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from kindling.checkpoint.checksum import Buffer, chunk_checksum
from kindling.checkpoint.files import read_fully, reading
from kindling.checkpoint.layout import MANIFEST_FILE
from kindling.checkpoint.manifest import Manifest
from kindling.checkpoint.manifest_json import load_manifest
from kindling.platform.errors import DataLossError, NotFoundError


@dataclass(frozen=True, slots=True)
class PackedCheckpoint:
    """A packed checkpoint's directory, its manifest read and every file's presence and size checked (not content)."""

    directory: Path
    manifest: Manifest

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Opens ``directory``.

        Raises NotFoundError (CHECKPOINT_NOT_FOUND) where there is no manifest, DataLossError (MANIFEST_INVALID,
        CHECKPOINT_INCOMPLETE) and FailedPreconditionError (CHECKPOINT_FORMAT_UNSUPPORTED) where it cannot be used.
        """
        checkpoint = cls(directory, load_manifest(_manifest_bytes(directory)))
        checkpoint._require_files()
        return checkpoint

    def partition_path(self, partition: int) -> Path:
        """The data file of a partition."""
        return self.directory / self.manifest.partitions[partition].file_name

    def file_paths(self) -> tuple[Path, ...]:
        """The model's small files, in the manifest's order."""
        return tuple(self.directory / file.path for file in self.manifest.files)

    def read_chunk(self, index: int, into: memoryview) -> int:
        """Reads chunk ``index`` to the start of ``into`` (at least as long as the chunk); returns its length in bytes.

        Raises DataLossError (CHECKPOINT_TRUNCATED) if the file ends early. Content is not verified.
        """
        offset, length = self.manifest.chunk_range(index)
        path = self.partition_path(self.manifest.chunk_partition(index))
        with reading(path), path.open("rb", buffering=0) as file:
            count = read_fully(file.fileno(), into[:length], offset)
        if count != length:
            raise DataLossError(
                f"{path} ends within chunk {index}: {count} of {length} bytes. Fetch or pack the checkpoint again.",
                reason="CHECKPOINT_TRUNCATED",
                metadata={"file": str(path), "chunk": str(index)},
            )
        return length

    def verify_chunk(self, index: int, data: Buffer) -> bool:
        """Whether ``data`` is chunk ``index``, by length and checksum."""
        _, length = self.manifest.chunk_range(index)
        return memoryview(data).nbytes == length and chunk_checksum(data) == self.manifest.chunk_checksum(index)

    def _require_files(self) -> None:
        expected = [(partition.file_name, partition.size_bytes) for partition in self.manifest.partitions]
        expected += [(file.path, file.size_bytes) for file in self.manifest.files]
        for name, size_bytes in expected:
            _require_size(self.directory / name, size_bytes)


def _manifest_bytes(directory: Path) -> bytes:
    path = directory / MANIFEST_FILE
    try:
        with reading(path):
            return path.read_bytes()
    except NotFoundError as error:
        raise NotFoundError(
            f"There is no packed checkpoint in {directory}: it has no {MANIFEST_FILE}.", reason="CHECKPOINT_NOT_FOUND"
        ) from error


def _require_size(path: Path, size_bytes: int) -> None:
    try:
        found = path.stat().st_size
    except OSError:
        found = -1
    if found != size_bytes:
        state = "is missing" if found < 0 else f"has {found} bytes instead of {size_bytes}"
        raise DataLossError(
            f"{path} {state}: the checkpoint is incomplete. Fetch or pack it again.",
            reason="CHECKPOINT_INCOMPLETE",
            metadata={"file": str(path)},
        )

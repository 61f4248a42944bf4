"""A packed checkpoint's data files in a directory, read and written chunk by chunk; blocking, for executor threads."""

import errno
from pathlib import Path

from kindling.checkpoint.checksum import chunk_checksum
from kindling.checkpoint.manifest import Manifest
from kindling.platform.errors import DataLossError, KindlingError, ResourceExhaustedError, UnavailableError
from kindling.storage.adapters.direct_file import DirectFile

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class PackedFiles:
    """The open data files of one checkpoint. Several threads may read and write different chunks at once."""

    def __init__(self, directory: Path, manifest: Manifest, files: list[DirectFile]) -> None:
        self.directory = directory
        self.manifest = manifest
        self._files = files

    @classmethod
    def open(cls, directory: Path, manifest: Manifest, *, writable: bool = False) -> "PackedFiles":
        """Open existing files; DataLossError with reason CHUNK_UNREADABLE if one is missing or has another length."""
        files = _open_all(directory, manifest, writable=writable)
        for file, partition in zip(files, manifest.partitions, strict=True):
            if file.size_bytes() != partition.size_bytes:
                found = file.size_bytes()
                _close(files)
                raise _unreadable(
                    directory / partition.file_name, None, f"it has {found} bytes instead of {partition.size_bytes}"
                )
        return cls(directory, manifest, files)

    @classmethod
    def create(cls, directory: Path, manifest: Manifest) -> "PackedFiles":
        """Create the files at their full length; errors are those of :func:`ssd_trouble`."""
        for partition in manifest.partitions:
            (directory / partition.file_name).touch(mode=0o600)
        files = [DirectFile(directory / partition.file_name, writable=True) for partition in manifest.partitions]
        try:
            for file, partition in zip(files, manifest.partitions, strict=True):
                file.allocate(partition.size_bytes)
        except OSError as error:
            _close(files)
            raise ssd_trouble(error, directory) from error
        return cls(directory, manifest, files)

    def read(self, chunk: int, into: memoryview, *, cached: bool = False) -> None:
        """Fill the head of ``into``, not verified yet; DataLossError CHUNK_UNREADABLE if that fails."""
        partition = self.manifest.chunk_partition(chunk)
        offset, length = self.manifest.chunk_range(chunk)
        path = self.directory / self.manifest.partitions[partition].file_name
        try:
            self._files[partition].read(into, length, offset, cached=cached)
        except (OSError, EOFError) as error:
            raise _unreadable(path, chunk, str(error)) from error

    def verify(self, chunk: int, data: memoryview) -> None:
        """Check the head of ``data`` against the manifest; DataLossError CHUNK_CORRUPT if it is something else."""
        offset, length = self.manifest.chunk_range(chunk)
        if chunk_checksum(data[:length]) != self.manifest.chunk_checksum(chunk):
            name = self.manifest.partitions[self.manifest.chunk_partition(chunk)].file_name
            raise _corrupt(self.directory / name, chunk, offset)

    def write(self, chunk: int, data: memoryview, *, cached: bool = False) -> None:
        """Write the chunk; errors are those of :func:`ssd_trouble`."""
        offset, _ = self.manifest.chunk_range(chunk)
        try:
            self._files[self.manifest.chunk_partition(chunk)].write(data, offset, cached=cached)
        except OSError as error:
            raise ssd_trouble(error, self.directory) from error

    def sync(self) -> None:
        """Return when everything written has reached the device."""
        for file in self._files:
            file.sync()

    def descriptor(self, partition: int) -> int:
        """A read-only descriptor of the partition's file; not the caller's to close."""
        return self._files[partition].descriptor()

    def close(self) -> None:
        """Close the files; closing twice is no error."""
        _close(self._files)
        self._files = []


def ssd_trouble(error: OSError, path: Path) -> KindlingError:
    """Return what to raise when writing fails: SSD_FULL if the disk is full, else SSD_UNUSABLE."""
    metadata = {"path": str(path)}
    if error.errno in _FULL:
        message = f"the disk of {path} is full ({error.strerror}): make room, or move KINDLING_STORAGE_CACHE_DIR"
        return ResourceExhaustedError(message, reason="SSD_FULL", metadata=metadata)
    message = f"{path} cannot be written ({error}): check the disk and its permissions"
    return UnavailableError(message, reason="SSD_UNUSABLE", metadata=metadata)


def _open_all(directory: Path, manifest: Manifest, *, writable: bool) -> list[DirectFile]:
    files: list[DirectFile] = []
    for partition in manifest.partitions:
        path = directory / partition.file_name
        try:
            files.append(DirectFile(path, writable=writable))
        except OSError as error:
            _close(files)
            raise _unreadable(path, None, str(error.strerror)) from error
    return files


def _close(files: list[DirectFile]) -> None:
    for file in files:
        file.close()


def _unreadable(path: Path, chunk: int | None, why: str) -> DataLossError:
    where = f"chunk {chunk} of {path}" if chunk is not None else str(path)
    return DataLossError(
        f"{where} cannot be read: {why}; deploy the model again from its source",
        reason="CHUNK_UNREADABLE",
        metadata={"file": str(path), "chunk": "" if chunk is None else str(chunk)},
    )


def _corrupt(path: Path, chunk: int, offset: int) -> DataLossError:
    return DataLossError(
        f"chunk {chunk} of {path} (at byte {offset}) does not match its checksum; "
        "deploy the model again from its source",
        reason="CHUNK_CORRUPT",
        metadata={"file": str(path), "chunk": str(chunk), "offset": str(offset)},
    )

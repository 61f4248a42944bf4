"""File input and output that is whole or fails, with the operating system's errors made the project's."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from kindling.platform.errors import (
    DataLossError,
    InvalidArgumentError,
    KindlingError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnavailableError,
)

#: Linux moves at most this much in one call; staying below keeps a call's count honest.
_MOST_PER_CALL_BYTES: Final = 1 << 30
_FULL: Final = {errno.ENOSPC, errno.EDQUOT}


def read_fully(descriptor: int, into: memoryview, offset: int) -> int:
    """Fills ``into`` from ``offset`` on; returns fewer bytes than asked only at the end of the file."""
    done = 0
    while done < into.nbytes:
        count = os.preadv(descriptor, [into[done : done + _MOST_PER_CALL_BYTES]], offset + done)
        if count == 0:
            break
        done += count
    return done


def write_fully(descriptor: int, data: memoryview) -> None:
    """Appends all of ``data``; a short write is continued until the system takes everything or fails."""
    done = 0
    while done < data.nbytes:
        done += os.write(descriptor, data[done : done + _MOST_PER_CALL_BYTES])


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Translates the errors of opening and reading ``path``."""
    try:
        yield
    except OSError as error:
        raise _reading_error(path, error) from error


def _reading_error(path: Path, error: OSError) -> KindlingError:
    metadata = {"file": str(path)}
    if isinstance(error, FileNotFoundError):
        return NotFoundError(f"{path} does not exist. Check the path.", reason="SOURCE_NOT_FOUND", metadata=metadata)
    if isinstance(error, PermissionError):
        message = (
            f"{path} may not be read by this process's user, {os.geteuid()}. Grant read permission "
            "(chmod -R a+rX on the model's directory), or run as another user."
        )
        return PermissionDeniedError(message, reason="SOURCE_NOT_READABLE", metadata=metadata)
    if isinstance(error, IsADirectoryError | NotADirectoryError) or error.errno in {errno.ELOOP, errno.ENAMETOOLONG}:
        message = f"{path} is not what its name says: {error.strerror}. Check the path."
        return InvalidArgumentError(message, reason="SOURCE_INVALID", metadata=metadata)
    message = f"{path} cannot be read: {error.strerror}. Check the disk, then try again."
    return DataLossError(message, reason="SOURCE_READ_FAILED", metadata=metadata)


@contextmanager
def writing(store: Path, needed_bytes: int) -> Iterator[None]:
    """Translates the errors of writing ``needed_bytes`` below ``store``."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise disk_full(store, needed_bytes) from error
        raise UnavailableError(
            f"{store} cannot be written: {error.strerror}. Check the disk and its permissions, then try again.",
            reason="STORE_WRITE_FAILED",
            metadata={"store": str(store)},
        ) from error


def disk_full(store: Path, needed_bytes: int) -> ResourceExhaustedError:
    """The error that says how much is needed below ``store`` and how much there is."""
    available_bytes = shutil.disk_usage(store).free
    return ResourceExhaustedError(
        f"{store} has no room: {needed_bytes} bytes are needed, {available_bytes} are free. Free space or choose "
        "another disk, then try again.",
        reason="DISK_FULL",
        metadata={"needed_bytes": str(needed_bytes), "available_bytes": str(available_bytes)},
    )


def require_space(store: Path, needed_bytes: int) -> None:
    """Raises ResourceExhaustedError (DISK_FULL) unless ``store`` has room for ``needed_bytes``."""
    if shutil.disk_usage(store).free < needed_bytes:
        raise disk_full(store, needed_bytes)


def sync_directory(directory: Path) -> None:
    """Makes the names in ``directory`` durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_file(path: Path, data: bytes) -> None:
    """Writes a new file and makes its content durable."""
    with path.open("xb", buffering=0) as file:
        write_fully(file.fileno(), memoryview(data))
        os.fsync(file.fileno())

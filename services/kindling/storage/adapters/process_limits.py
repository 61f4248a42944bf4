"""Limits of this process, and its sole use of a directory."""

import fcntl
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kindling.platform.errors import FailedPreconditionError


def raise_open_file_limit() -> None:
    """Allow as many open files as the hard limit does: the pool needs a few per chunk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextmanager
def sole_use(directory: Path) -> Iterator[None]:
    """Make ``directory`` if need be and keep other storage managers out of it.

    Raises FailedPreconditionError: CACHE_DIR_IN_USE if another process has it, CACHE_DIR_UNUSABLE if it cannot be made.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _refused(
            directory, "CACHE_DIR_UNUSABLE", f"cannot be used: {error.strerror}; set KINDLING_STORAGE_CACHE_DIR"
        ) from error
    try:
        _lock(fd, directory)
        yield
    finally:
        os.close(fd)


def _lock(fd: int, directory: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise _refused(
            directory, "CACHE_DIR_IN_USE", "belongs to a storage manager that runs now; stop it, or choose another"
        ) from error


def _refused(directory: Path, reason: str, why: str) -> FailedPreconditionError:
    return FailedPreconditionError(f"{directory} {why}", reason=reason, metadata={"path": str(directory)})

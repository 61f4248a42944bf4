"""Writing into a store of packed checkpoints: complete and durable under its name, or not there at all."""

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from kindling.checkpoint.files import sync_directory, write_file, write_fully, writing
from kindling.checkpoint.layout import MANIFEST_FILE, TEMPORARY_PREFIX, directory_name
from kindling.checkpoint.manifest import Manifest
from kindling.checkpoint.manifest_json import dump_manifest
from kindling.checkpoint.reader import PackedCheckpoint
from kindling.platform.errors import DataLossError, FailedPreconditionError, NotFoundError

_OCCUPIED: Final = {errno.ENOTEMPTY, errno.EEXIST}


def find_checkpoint(store: Path, digest: str) -> PackedCheckpoint | None:
    """The checkpoint ``digest`` of ``store`` if it is there and its files are complete."""
    try:
        return PackedCheckpoint.open(store / directory_name(digest))
    except (NotFoundError, DataLossError, FailedPreconditionError):
        return None


@contextmanager
def temporary_directory(store: Path) -> Iterator[Path]:
    """A new directory in ``store``, removed at the end unless it was renamed; a crash leaves it to be swept."""
    store.mkdir(parents=True, exist_ok=True)
    directory, lock = _locked_directory(store)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


def sweep_temporaries(store: Path) -> tuple[Path, ...]:
    """Removes what crashed writers left in ``store``; what a living one holds stays. Returns what was removed."""
    with writing(store, 0):
        leftovers = sorted(store.glob(f"{TEMPORARY_PREFIX}*")) if store.is_dir() else []
    return tuple(path for path in leftovers if _swept(path))


def write_chunks(path: Path, chunks: Iterable[memoryview]) -> None:
    """Writes a new file from ``chunks`` and makes its content durable."""
    with path.open("xb", buffering=0) as file:
        for chunk in chunks:
            write_fully(file.fileno(), chunk)
        os.fsync(file.fileno())


def commit(temporary: Path, store: Path, manifest: Manifest) -> None:
    """Gives the finished directory ``temporary`` its manifest and its name; returns once that is durable.

    Where a complete checkpoint of that digest is there already, it stays; a damaged one is replaced.
    """
    write_file(temporary / MANIFEST_FILE, dump_manifest(manifest))
    sync_directory(temporary)
    target = store / directory_name(manifest.digest)
    try:
        temporary.rename(target)
    except OSError as error:
        if error.errno not in _OCCUPIED:
            raise
        if find_checkpoint(store, manifest.digest) is None:
            _replace(temporary, target)
    sync_directory(store)


def _replace(temporary: Path, target: Path) -> None:
    damaged = temporary.with_name(f"{temporary.name}-damaged")
    target.rename(damaged)
    temporary.rename(target)
    shutil.rmtree(damaged, ignore_errors=True)


def _locked_directory(store: Path) -> tuple[Path, int]:
    """A fresh directory and the descriptor that holds its lock."""
    while True:
        directory = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=store))
        directory.chmod(0o755)
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        # Filesystems without locks lose the sweeping of leftovers, and nothing else.
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(lock).st_nlink:
            return directory, lock
        os.close(lock)  # a sweeper came between creation and lock


def _swept(path: Path) -> bool:
    try:
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path)
    except OSError:
        return False
    finally:
        os.close(lock)
    return True

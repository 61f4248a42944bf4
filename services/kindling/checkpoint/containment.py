"""Opening a source's files without leaving the source: an index or a link must not name anything else."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from kindling.checkpoint.files import read_fully, reading
from kindling.platform.errors import DataLossError, InvalidArgumentError


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A regular file of the source, open for reading until its owner closes the descriptor."""

    path: Path
    descriptor: int
    size_bytes: int

    def read_into(self, offset: int, into: memoryview) -> None:
        """Fills ``into`` from ``offset`` on. Raises DataLossError (SOURCE_CHANGED) if the file became shorter."""
        with reading(self.path):
            count = read_fully(self.descriptor, into, offset)
        if count != into.nbytes:
            raise DataLossError(
                f"{self.path} became shorter while it was read. Leave the source alone and try again.",
                reason="SOURCE_CHANGED",
                metadata={"file": str(self.path)},
            )


def contained(directory: Path, name: str) -> Path:
    """The path of the source's file ``name``. Raises InvalidArgumentError (PATH_ESCAPES) if it lies elsewhere.

    Links may point within the source, and within the blobs of a Hugging Face cache where the source is a snapshot.
    """
    path = directory / name
    parts = Path(name).parts
    plain = bool(parts) and "\0" not in name and not Path(name).is_absolute() and ".." not in parts
    if not plain or not any(_within(path, root) for root in _roots(directory)):
        raise InvalidArgumentError(
            f"{directory} refers to {name[:200]!r}, which lies outside of it; such a source is not read. Give a "
            "directory that holds its own files.",
            reason="PATH_ESCAPES",
            metadata={"file": name[:200]},
        )
    return path


def open_file(path: Path) -> OpenFile:
    """Opens a regular file. Raises the errors of ``files.reading``, and SOURCE_INVALID for pipes and devices."""
    with reading(path):
        # Not blocking, or a pipe in the source would hold the caller forever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise InvalidArgumentError(
            f"{path} is not a regular file. Give a directory that holds its own files.",
            reason="SOURCE_INVALID",
            metadata={"file": str(path)},
        )
    return OpenFile(path, descriptor, status.st_size)


def _roots(directory: Path) -> list[Path]:
    roots = [Path(os.path.realpath(directory))]
    if roots[0].parent.name == "snapshots":
        roots.append(roots[0].parent.parent / "blobs")
    return roots


def _within(path: Path, root: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(root)

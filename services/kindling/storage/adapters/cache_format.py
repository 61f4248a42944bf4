"""The mark in a cache directory that says in which format it is written."""

import json
import os
from pathlib import Path
from typing import Final

from kindling.platform.errors import FailedPreconditionError

FORMAT_FILE: Final = "format.json"
#: To be raised whenever a storage manager of before could not read, or would misread, what this one writes.
FORMAT_VERSION: Final = 1


def require_format(directory: Path) -> None:
    """Mark ``directory`` as of this version's format, unless it is marked already.

    One without a mark is empty or was written before there were marks, in the format that is now version 1. Raises
    FailedPreconditionError (CACHE_DIR_FORMAT) if the mark names another version, or cannot be read.
    """
    try:
        content = (directory / FORMAT_FILE).read_text()
    except FileNotFoundError:
        _write(directory)
        return
    except (OSError, UnicodeDecodeError) as error:
        raise _refused(directory, f"has a mark of its format that cannot be read ({error})") from error
    found = _version(content)
    if found != FORMAT_VERSION:
        raise _refused(directory, f"holds data of format {found}, and this version of Kindling reads {FORMAT_VERSION}")


def _version(content: str) -> object:
    try:
        return json.loads(content)["version"]
    except (ValueError, TypeError, LookupError):
        return repr(content[:40])


def _write(directory: Path) -> None:
    partial = directory / f"{FORMAT_FILE}.partial"
    try:
        with partial.open("w") as file:
            json.dump({"version": FORMAT_VERSION}, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(directory / FORMAT_FILE)
    except OSError as error:
        raise FailedPreconditionError(
            f"{directory} cannot be written: {error.strerror}; set KINDLING_STORAGE_CACHE_DIR",
            reason="CACHE_DIR_UNUSABLE",
            metadata={"path": str(directory)},
        ) from error


def _refused(directory: Path, what: str) -> FailedPreconditionError:
    return FailedPreconditionError(
        f"{directory} {what}. It is a cache: empty it (every checkpoint is fetched again from REMOTE), give this "
        "version a directory of its own (KINDLING_STORAGE_CACHE_DIR), or go on with the version that wrote it",
        reason="CACHE_DIR_FORMAT",
        metadata={"path": str(directory)},
    )

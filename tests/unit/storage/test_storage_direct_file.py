"""Files past the page cache: any length, any alignment, any file system."""

import mmap
import os
from pathlib import Path

import pytest

from kindling.storage.adapters.direct_file import DirectFile

PAGE = 4096


def aligned(length: int) -> memoryview:
    return memoryview(mmap.mmap(-1, -(-length // PAGE) * PAGE))


@pytest.mark.parametrize("directory", [None, Path("/dev/shm")], ids=["disk", "tmpfs"])
@pytest.mark.parametrize("length", [1, PAGE - 1, PAGE, PAGE + 1, 5 * PAGE + 777])
@pytest.mark.parametrize("offset", [0, PAGE, 100])
def test_what_is_written_is_read(tmp_path: Path, directory: Path | None, length: int, offset: int) -> None:
    path = (directory or tmp_path) / f"direct-{os.getpid()}"
    data = os.urandom(length)
    path.touch()
    try:
        file = DirectFile(path, writable=True)
        file.allocate(offset + length)
        file.write(memoryview(data), offset)
        file.sync()
        into = aligned(length)
        file.read(into, length, offset)
        assert bytes(into[:length]) == data
        exact = memoryview(bytearray(length))  # too short for whole pages, and not aligned
        file.read(exact, length, offset)
        assert (bytes(exact), file.size_bytes()) == (data, offset + length)
        assert os.pread(file.descriptor(), length, offset) == data
        file.close()
    finally:
        path.unlink()


def test_a_file_that_ends_too_soon_says_where(tmp_path: Path) -> None:
    path = tmp_path / "short"
    path.write_bytes(b"x" * 5000)
    file = DirectFile(path)
    with pytest.raises(EOFError, match="ends at 5000"):
        file.read(aligned(2 * PAGE), 2 * PAGE, 0)
    file.close()


def test_a_descriptor_given_away_cannot_write(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * PAGE)
    file = DirectFile(path, writable=True)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pwrite(file.descriptor(), b"y", 0)
    file.close()

"""The store: complete under its name or not there at all, whatever happens to the writer."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from kindling.checkpoint import Manifest, directory_name, find_checkpoint, pack, sweep_temporaries, verify
from kindling.checkpoint.files import write_fully, writing
from kindling.checkpoint.writer import temporary_directory
from kindling.platform.errors import (
    CancelledError,
    DataLossError,
    KindlingError,
    ResourceExhaustedError,
    UnavailableError,
)
from support.safetensors_files import ONE_TENSOR, raw, tensor, write_model

CHUNK = 4096
SIZE = 1_000_003  # no multiple of anything


@pytest.fixture
def source(tmp_path: Path) -> Path:
    data = bytes(index * 7 % 251 for index in range(SIZE))
    return write_model(tmp_path / "source", raw({"a.weight": tensor("U8", [SIZE], 0, SIZE)}, data))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real filesystem of 4 MiB."""
    mount = tmp_path / "small"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", mount]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small filesystem needs root; /dev/full stands in for it in the test below")
    yield mount
    subprocess.run(["umount", mount], check=True)


def store_is_empty(store: Path) -> bool:
    return not list(store.iterdir())


def packed(store: Path, manifest: Manifest) -> Path:
    return store / directory_name(manifest.digest)


def test_a_full_disk_is_seen_before_writing(small_disk: Path, source: Path) -> None:
    (small_disk / "other").write_bytes(bytes(3 * 2**20))
    reports: list[int] = []
    with pytest.raises(ResourceExhaustedError) as caught:
        pack(source, small_disk / "store", on_progress=lambda done, _: reports.append(done))
    error = caught.value
    assert error.reason == "DISK_FULL"
    assert int(error.metadata["needed_bytes"]) > SIZE > 2**20 - 2**16 > 0
    assert int(error.metadata["available_bytes"]) <= 2**20
    assert store_is_empty(small_disk / "store")
    assert reports == []


def test_a_disk_that_fills_up_while_packing(small_disk: Path, source: Path) -> None:
    def rival(done: int, _total: int) -> None:
        if done == CHUNK:
            fill(small_disk / "rival")

    with pytest.raises(ResourceExhaustedError) as caught:
        pack(source, small_disk / "store", chunk_bytes=CHUNK, on_progress=rival)
    assert caught.value.reason == "DISK_FULL"
    (small_disk / "rival").unlink()
    assert store_is_empty(small_disk / "store")
    manifest = pack(source, small_disk / "store", chunk_bytes=CHUNK)
    assert verify(packed(small_disk / "store", manifest)).is_intact


def test_the_kernels_no_space_becomes_disk_full(tmp_path: Path) -> None:
    with (
        pytest.raises(ResourceExhaustedError) as caught,
        Path("/dev/full").open("wb", buffering=0) as full,
        writing(tmp_path, 123),
    ):
        write_fully(full.fileno(), memoryview(b"data"))
    assert (caught.value.reason, caught.value.metadata["needed_bytes"]) == ("DISK_FULL", "123")


def test_a_short_write_is_never_a_success(tmp_path: Path, source: Path) -> None:
    """A limit in the middle of a chunk makes the kernel take part of a write, then refuse."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE // 2, before[1]))
    try:
        with pytest.raises(UnavailableError) as caught:
            pack(source, tmp_path / "store", chunk_bytes=64 * CHUNK)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, previous)
    assert caught.value.reason == "STORE_WRITE_FAILED"
    assert store_is_empty(tmp_path / "store")


def test_cancelling_leaves_nothing(tmp_path: Path, source: Path) -> None:
    asked: list[bool] = []
    with pytest.raises(CancelledError):
        pack(
            source, tmp_path / "store", chunk_bytes=CHUNK, cancelled=lambda: bool(asked.append(True)) or len(asked) > 3
        )
    assert len(asked) == 4
    assert store_is_empty(tmp_path / "store")


def test_progress_counts_every_byte(tmp_path: Path, source: Path) -> None:
    reports: list[tuple[int, int]] = []
    manifest = pack(source, tmp_path / "store", chunk_bytes=CHUNK, on_progress=lambda *report: reports.append(report))
    assert len(reports) == manifest.chunk_count
    assert reports == sorted(reports)
    assert reports[-1] == (manifest.total_bytes, manifest.total_bytes)


def test_a_killed_pack_is_swept_and_a_living_one_is_not(tmp_path: Path, source: Path) -> None:
    store = tmp_path / "store"
    program = (
        "import os, signal, sys; from pathlib import Path; from kindling.checkpoint import pack\n"
        "kill = lambda done, total: os.kill(os.getpid(), signal.SIGKILL) if done > total / 2 else None\n"
        "pack(Path(sys.argv[1]), Path(sys.argv[2]), chunk_bytes=4096, on_progress=kill)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.run([sys.executable, "-c", program, source, store], env=environment, check=False)
    assert child.returncode == -signal.SIGKILL
    (leftover,) = store.iterdir()
    with temporary_directory(store) as alive:
        assert sweep_temporaries(store) == (leftover,)
        assert list(store.iterdir()) == [alive]
    manifest = pack(source, store)
    assert sweep_temporaries(store) == ()
    assert [path.name for path in store.iterdir()] == [directory_name(manifest.digest)]
    assert sweep_temporaries(tmp_path / "nowhere") == ()


def test_packs_of_the_same_content_at_once(tmp_path: Path, source: Path) -> None:
    with ThreadPoolExecutor(4) as executor:
        jobs = [executor.submit(pack, source, tmp_path / "store", chunk_bytes=CHUNK) for _ in range(4)]
        manifests = [job.result() for job in jobs]
    assert len({manifest.digest for manifest in manifests}) == 1
    assert [path.name for path in (tmp_path / "store").iterdir()] == [directory_name(manifests[0].digest)]
    assert verify(packed(tmp_path / "store", manifests[0])).is_intact


@pytest.mark.parametrize("damaged", ["manifest.json", "partition-0.safetensors", "config.json"])
def test_packing_again_replaces_an_incomplete_checkpoint(tmp_path: Path, source: Path, damaged: str) -> None:
    store = tmp_path / "store"
    manifest = pack(source, store, chunk_bytes=CHUNK)
    os.truncate(packed(store, manifest) / damaged, 10)
    assert find_checkpoint(store, manifest.digest) is None
    assert pack(source, store, chunk_bytes=CHUNK) == manifest
    assert verify(packed(store, manifest)).is_intact
    assert len(list(store.iterdir())) == 1


def test_a_packed_checkpoint_is_copied_as_it_is(tmp_path: Path, source: Path) -> None:
    manifest = pack(source, tmp_path / "one", chunk_bytes=CHUNK)
    directory = packed(tmp_path / "one", manifest)
    assert pack(directory, tmp_path / "two") == manifest
    copy = packed(tmp_path / "two", manifest)
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == {
        path.name: path.read_bytes() for path in directory.iterdir()
    }
    assert pack(directory, tmp_path / "one") == manifest


@pytest.mark.parametrize(
    ("file", "reason"), [("partition-0.safetensors", "CHUNK_CORRUPT"), ("config.json", "FILE_CORRUPT")]
)
def test_a_corrupt_packed_checkpoint_is_not_copied(tmp_path: Path, source: Path, file: str, reason: str) -> None:
    directory = packed(tmp_path / "one", pack(source, tmp_path / "one", chunk_bytes=CHUNK))
    flip(directory / file, -2)
    with pytest.raises(DataLossError) as caught:
        pack(directory, tmp_path / "two")
    assert caught.value.reason == reason
    assert file in caught.value.message
    assert store_is_empty(tmp_path / "two")


def test_a_packed_checkpoint_with_a_foreign_manifest_is_refused(tmp_path: Path, source: Path) -> None:
    directory = packed(tmp_path / "one", pack(source, tmp_path / "one"))
    text = (directory / "manifest.json").read_text()
    (directory / "manifest.json").write_text(text.replace("LlamaForCausalLM", "OtherForCausalLM"))
    with pytest.raises(KindlingError) as caught:
        pack(directory, tmp_path / "two")
    assert caught.value.reason == "MANIFEST_INVALID"


def test_a_file_of_any_length(tmp_path: Path) -> None:
    for size in (1, 4095, 4096, 4097, 12288):
        weights = raw({"a.weight": tensor("U8", [size], 0, size)}, os.urandom(size))
        manifest = pack(write_model(tmp_path / f"source-{size}", weights), tmp_path / "store", chunk_bytes=CHUNK)
        assert manifest.total_bytes == 4096 + size
        assert verify(packed(tmp_path / "store", manifest)).is_intact


def test_a_store_that_cannot_be_made(tmp_path: Path) -> None:
    source = write_model(tmp_path / "source", ONE_TENSOR)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UnavailableError) as caught:
        pack(source, tmp_path / "file" / "store")
    assert caught.value.reason == "STORE_WRITE_FAILED"


def fill(path: Path) -> None:
    """Writes until the disk is full."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)

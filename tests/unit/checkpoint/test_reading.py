"""Reading packed checkpoints: chunks, manifests that lie, verification reports."""

import json
from pathlib import Path
from typing import Any

import pytest

from kindling.checkpoint import (
    PackedCheckpoint,
    chunk_checksum,
    directory_name,
    dump_manifest,
    load_manifest,
    pack,
    verify,
)
from kindling.checkpoint.manifest_json import load_validated_manifest
from kindling.platform.errors import (
    CancelledError,
    DataLossError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    OutOfRangeError,
)
from support.checkpoints import make_checkpoint
from support.safetensors_files import raw, tensor, write_model

CHUNK = 4096
SIZE = 10_000


@pytest.fixture
def checkpoint(tmp_path: Path) -> PackedCheckpoint:
    data = bytes(index % 251 for index in range(SIZE))
    source = write_model(tmp_path / "source", raw({"a.weight": tensor("U8", [SIZE], 0, SIZE)}, data))
    manifest = pack(source, tmp_path / "store", chunk_bytes=CHUNK)
    return PackedCheckpoint.open(tmp_path / "store" / directory_name(manifest.digest))


def test_chunks_are_the_file(checkpoint: PackedCheckpoint) -> None:
    buffer = memoryview(bytearray(CHUNK + 100))
    data = b""
    for index in range(checkpoint.manifest.chunk_count):
        chunk = buffer[: checkpoint.read_chunk(index, buffer)]
        assert checkpoint.verify_chunk(index, chunk)
        assert chunk_checksum(chunk) == checkpoint.manifest.chunk_checksum(index)
        data += chunk
    assert data == checkpoint.partition_path(0).read_bytes()
    assert checkpoint.manifest.chunk_range(3) == (12288, 4096 + SIZE - 12288)
    assert checkpoint.manifest.chunk_partition(3) == 0


@pytest.mark.parametrize("index", [-1, 4, 10**9])
def test_no_such_chunk(checkpoint: PackedCheckpoint, index: int) -> None:
    with pytest.raises(OutOfRangeError):
        checkpoint.manifest.chunk_range(index)


def test_wrong_bytes_and_wrong_lengths_do_not_verify(checkpoint: PackedCheckpoint) -> None:
    buffer = bytearray(CHUNK)
    checkpoint.read_chunk(1, memoryview(buffer))
    assert checkpoint.verify_chunk(1, buffer)
    assert not checkpoint.verify_chunk(1, buffer[:-1])
    assert not checkpoint.verify_chunk(2, buffer)
    buffer[7] ^= 128
    assert not checkpoint.verify_chunk(1, buffer)


def test_a_file_cut_after_opening(checkpoint: PackedCheckpoint) -> None:
    with checkpoint.partition_path(0).open("r+b") as file:
        file.truncate(CHUNK + 5)
    with pytest.raises(DataLossError) as caught:
        checkpoint.read_chunk(1, memoryview(bytearray(CHUNK)))
    assert caught.value.reason == "CHECKPOINT_TRUNCATED"
    assert caught.value.metadata["chunk"] == "1"
    with pytest.raises(DataLossError) as reopened:
        PackedCheckpoint.open(checkpoint.directory)
    assert reopened.value.reason == "CHECKPOINT_INCOMPLETE"


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as caught:
        PackedCheckpoint.open(tmp_path)
    assert caught.value.reason == "CHECKPOINT_NOT_FOUND"
    assert verify(tmp_path).manifest is None
    assert not verify(tmp_path).is_intact


def test_another_format_version_says_how_to_go_on(checkpoint: PackedCheckpoint) -> None:
    value = json.loads(dump_manifest(checkpoint.manifest)) | {"format_version": 2}
    with pytest.raises(FailedPreconditionError) as caught:
        load_manifest(json.dumps(value).encode())
    assert caught.value.reason == "CHECKPOINT_FORMAT_UNSUPPORTED"
    assert "pack the checkpoint again" in caught.value.message


CHANGES: dict[str, Any] = {
    "digest": "blake3:" + "0" * 64,
    "architecture": "Other",
    "model_type": 1,
    "parameter_count": -1,
    "context_length": "long",
    "chunk_bytes": 0,
    "partitions": [],
    "files": [{"path": "../evil", "size_bytes": 1, "digest": "blake3:" + "0" * 64}],
    "tensors": [{}],
    "layers": [{"kind": "decoder", "name": "x", "first_chunk": 0, "last_chunk": 99}],
    "format_version": "1",
    "surplus": 1,
}


@pytest.mark.parametrize("field", CHANGES)
def test_a_changed_manifest_is_refused(checkpoint: PackedCheckpoint, field: str) -> None:
    value = json.loads(dump_manifest(checkpoint.manifest)) | {field: CHANGES[field]}
    with pytest.raises(DataLossError) as caught:
        load_manifest(json.dumps(value).encode())
    assert caught.value.reason == "MANIFEST_INVALID"


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b"null", b"\xff\xfe", b'{"format_version": 1}', b"[" * 100_000])
def test_garbage_is_no_manifest(data: bytes) -> None:
    with pytest.raises(DataLossError) as caught:
        load_manifest(data)
    assert caught.value.reason == "MANIFEST_INVALID"


@pytest.mark.parametrize("digest", ["", "../..", "blake3:../x", "blake3:" + "G" * 64, "sha256:" + "0" * 64])
def test_only_digests_name_directories(digest: str) -> None:
    with pytest.raises(InvalidArgumentError):
        directory_name(digest)


def test_verification_reports_what_is_wrong(checkpoint: PackedCheckpoint) -> None:
    assert verify(checkpoint.directory).is_intact
    with checkpoint.partition_path(0).open("r+b") as file:
        file.seek(2 * CHUNK + 1)
        file.write(b"\xff\xff")
    (checkpoint.directory / "config.json").write_text("{}")
    report = verify(checkpoint.directory)
    assert (report.bad_chunks, report.bad_files, report.missing_files) == ((2,), ("config.json",), ())
    (checkpoint.directory / "config.json").unlink()
    with checkpoint.partition_path(0).open("r+b") as file:
        file.truncate(CHUNK)
    report = verify(checkpoint.directory)
    assert report.bad_chunks == (1, 2, 3)
    assert (report.bad_files, report.missing_files) == (("partition-0.safetensors",), ("config.json",))
    checkpoint.partition_path(0).unlink()
    report = verify(checkpoint.directory)
    assert (report.bad_chunks, report.missing_files) == ((), ("config.json", "partition-0.safetensors"))
    assert not report.is_intact


def test_verification_can_be_cancelled(checkpoint: PackedCheckpoint) -> None:
    with pytest.raises(CancelledError):
        verify(checkpoint.directory, cancelled=lambda: True)


def test_a_validated_manifest_is_read_without_checks_and_equals_the_strict_one(tmp_path: Path) -> None:
    manifest = pack(make_checkpoint(tmp_path / "model", "mixtral"), tmp_path / "store", chunk_bytes=4096)
    data = dump_manifest(manifest)
    assert load_validated_manifest(data) == load_manifest(data) == manifest

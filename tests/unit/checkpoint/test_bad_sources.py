"""Every wrong source has its own reason and a message that names the file and what to do; nothing is stored."""

import json
import os
import pickle
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from kindling.checkpoint import pack
from kindling.platform.errors import InvalidArgumentError, KindlingError, NotFoundError, PermissionDeniedError
from support.safetensors_files import ONE_TENSOR, raw, tensor, write_config, write_model, write_sharded


def refusal(source: Path, store: Path, **options: Any) -> KindlingError:
    with pytest.raises(KindlingError) as caught:
        pack(source, store, **options)
    assert not store.exists() or not list(store.iterdir())
    assert str(source) in caught.value.message
    assert caught.value.message.count(". ") >= 1, "it must say what to do"
    return caught.value


U8 = tensor("U8", [4], 0, 4)

BAD_FILES: dict[str, tuple[bytes, str]] = {
    "no bytes": (b"", "SHARD_TRUNCATED"),
    "seven bytes": (ONE_TENSOR[:7], "SHARD_TRUNCATED"),
    "truncated data": (ONE_TENSOR[:-1], "SHARD_TRUNCATED"),
    "truncated header": (ONE_TENSOR[:20], "HEADER_BEYOND_FILE"),
    "header longer than file": (raw({"a": U8}, b"abcd", announced=10_000), "HEADER_BEYOND_FILE"),
    "header of 2^63": (raw({"a": U8}, b"abcd", announced=2**63), "HEADER_TOO_LONG"),
    "header of zero": (raw(b"", b"abcd"), "HEADER_INVALID"),
    "trailing bytes": (ONE_TENSOR + b"x", "SHARD_TRAILING_BYTES"),
    "overlap": (raw({"a": U8, "b": tensor("U8", [4], 2, 6)}, bytes(6)), "OFFSETS_OVERLAP"),
    "same range twice": (raw({"a": U8, "b": U8}, bytes(4)), "OFFSETS_OVERLAP"),
    "hole": (raw({"a": U8, "b": tensor("U8", [4], 5, 9)}, bytes(9)), "OFFSETS_HOLE"),
    "hole at the start": (raw({"a": tensor("U8", [4], 1, 5)}, bytes(5)), "OFFSETS_HOLE"),
    "negative offset": (raw({"a": tensor("U8", [4], -4, 0)}, bytes(4)), "OFFSETS_INVALID"),
    "offset of 2^63": (raw({"a": tensor("U8", [4], 2**63, 2**63 + 4)}, bytes(4)), "OFFSETS_INVALID"),
    "backwards": (raw({"a": tensor("U8", [4], 4, 0)}, bytes(4)), "OFFSETS_INVALID"),
    "float offset": (raw({"a": tensor("U8", [4], 0, 4.0)}, bytes(4)), "OFFSETS_INVALID"),
    "boolean offset": (raw({"a": tensor("U8", [1], False, True)}, bytes(1)), "OFFSETS_INVALID"),
    "far beyond the file": (raw({"a": tensor("U8", [2**50], 0, 2**50)}, bytes(4)), "SHARD_TRUNCATED"),
    "unknown dtype": (raw({"a": tensor("F17", [4], 0, 4)}, bytes(4)), "DTYPE_UNKNOWN"),
    "size mismatch": (raw({"a": tensor("F32", [4], 0, 4)}, bytes(4)), "SHAPE_MISMATCH"),
    "negative shape": (raw({"a": tensor("U8", [-4], 0, 4)}, bytes(4)), "SHAPE_INVALID"),
    "overflowing shape": (raw({"a": tensor("U8", [2**40, 2**40, 0], 0, 0)}), "SHAPE_INVALID"),
    "half a byte": (raw({"a": tensor("F4", [1], 0, 0)}), "SHAPE_INVALID"),
    "duplicate tensor": (raw(b'{"a":%b,"a":%b}' % ((json.dumps(U8).encode(),) * 2), b"abcd"), "HEADER_DUPLICATE_KEY"),
    "duplicate field": (
        raw(b'{"a":{"dtype":"U8","dtype":"U8","shape":[4],"data_offsets":[0,4]}}', b"abcd"),
        "HEADER_DUPLICATE_KEY",
    ),
    "not JSON": (raw(b"{nonsense}", b"abcd"), "HEADER_INVALID"),
    "not an object": (raw(b"[]"), "HEADER_INVALID"),
    "not UTF-8": (raw(b'{"\xff":1}'), "HEADER_INVALID"),
    "too deep": (raw(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "HEADER_INVALID"),
    "lone surrogate": (raw(b'{"\\ud800":%b}' % json.dumps(U8).encode(), b"abcd"), "HEADER_INVALID"),
    "no dtype": (raw({"a": {"shape": [4], "data_offsets": [0, 4]}}, bytes(4)), "HEADER_INVALID"),
    "odd metadata": (raw({"__metadata__": {"a": 1}}), "HEADER_INVALID"),
    "no tensors": (raw({}), "SOURCE_EMPTY"),
}


@pytest.mark.parametrize(("data", "reason"), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_file(tmp_path: Path, data: bytes, reason: str) -> None:
    error = refusal(write_model(tmp_path / "source", data), tmp_path / "store")
    assert isinstance(error, InvalidArgumentError)
    assert error.reason == reason


def test_missing_and_empty_and_weightless_directories(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere", tmp_path / "store").reason == "SOURCE_NOT_FOUND"
    source = tmp_path / "source"
    source.mkdir()
    assert refusal(source, tmp_path / "store").reason == "SOURCE_EMPTY"
    (source / "model.safetensors").write_bytes(ONE_TENSOR)
    assert refusal(source, tmp_path / "store").reason == "CONFIG_MISSING"
    (source / "model.safetensors").unlink()
    write_config(source)
    error = refusal(source, tmp_path / "store")
    assert isinstance(error, NotFoundError)
    assert error.reason == "WEIGHTS_NOT_FOUND"


def test_source_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(ONE_TENSOR)
    assert refusal(tmp_path / "file", tmp_path / "store").reason == "SOURCE_INVALID"


@pytest.mark.parametrize("config", [b"", b"[]", b"{}", b'{"architectures":[]}', b'{"architectures":"Llama"}', b"\xff"])
def test_bad_config(tmp_path: Path, config: bytes) -> None:
    source = write_model(tmp_path / "source", ONE_TENSOR)
    (source / "config.json").write_bytes(config)
    assert refusal(source, tmp_path / "store").reason == "CONFIG_INVALID"


def test_remote_code_is_refused(tmp_path: Path) -> None:
    source = write_model(tmp_path / "source", ONE_TENSOR, auto_map={"AutoModel": "modeling.Evil"})
    assert refusal(source, tmp_path / "store").reason == "REMOTE_CODE_REFUSED"


def test_unknown_architecture_is_the_callers_word(tmp_path: Path) -> None:
    source = write_model(tmp_path / "source", ONE_TENSOR, architectures=["BertModel"])
    asked: list[str] = []
    error = refusal(source, tmp_path / "store", supported=lambda name: bool(asked.append(name)))
    assert (error.reason, asked) == ("ARCHITECTURE_UNSUPPORTED", ["BertModel"])
    assert "BertModel" in error.message


ESCAPES = ["../outside.safetensors", "/etc/passwd", "a/../../outside.safetensors", "", "x\0y", ".."]


@pytest.mark.parametrize("name", ESCAPES)
def test_index_that_leaves_the_directory(tmp_path: Path, name: str) -> None:
    (tmp_path / "outside.safetensors").write_bytes(ONE_TENSOR)
    source = write_sharded(tmp_path / "source", {"a.weight": name}, {})
    assert refusal(source, tmp_path / "store").reason == "PATH_ESCAPES"


@pytest.mark.parametrize("link", ["model.safetensors", "tokenizer.json"])
def test_link_that_leaves_the_directory(tmp_path: Path, link: str) -> None:
    (tmp_path / "outside").write_bytes(ONE_TENSOR)
    source = write_model(tmp_path / "source", ONE_TENSOR)
    (source / link).unlink(missing_ok=True)
    (source / link).symlink_to(tmp_path / "outside")
    assert refusal(source, tmp_path / "store").reason == "PATH_ESCAPES"


def test_links_of_a_hub_cache_are_followed(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--a--b" / "snapshots" / "0123"
    write_model(snapshot, b"")
    blobs = tmp_path / "models--a--b" / "blobs"
    blobs.mkdir()
    (blobs / "weights").write_bytes(ONE_TENSOR)
    (snapshot / "model.safetensors").unlink()
    (snapshot / "model.safetensors").symlink_to("../../blobs/weights")
    assert [entry.name for entry in pack(snapshot, tmp_path / "store").tensors] == ["a.weight"]


def test_index_that_does_not_fit_its_shards(tmp_path: Path) -> None:
    shards = {"one.safetensors": ONE_TENSOR}
    source = write_sharded(tmp_path / "a", {"a.weight": "one.safetensors", "b.weight": "two.safetensors"}, shards)
    assert refusal(source, tmp_path / "store").reason == "SHARD_MISSING"
    source = write_sharded(tmp_path / "b", {"b.weight": "one.safetensors"}, shards)
    assert refusal(source, tmp_path / "store").reason == "TENSOR_MISSING"
    source = write_sharded(tmp_path / "c", ["one.safetensors"], shards)
    assert refusal(source, tmp_path / "store").reason == "INDEX_INVALID"
    source = write_sharded(tmp_path / "d", {"a.weight": "one.safetensors"}, {"one.safetensors": ONE_TENSOR[:-1]})
    assert refusal(source, tmp_path / "store").reason == "SHARD_TRUNCATED"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_weights_that_are_no_file(tmp_path: Path, make: Callable[[Path], None]) -> None:
    source = write_model(tmp_path / "source", ONE_TENSOR)
    (source / "model.safetensors").unlink()
    make(source / "model.safetensors")
    assert refusal(source, tmp_path / "store").reason == "SOURCE_INVALID"


def test_pickles_are_refused_unless_allowed(tmp_path: Path) -> None:
    source = write_model(tmp_path / "source", b"")
    (source / "model.safetensors").unlink()
    torch.save({"a.weight": torch.zeros(4)}, source / "pytorch_model.bin")
    error = refusal(source, tmp_path / "store")
    assert error.reason == "PICKLE_REFUSED"
    assert "--allow-pickle" in error.message


def test_pickles_where_torch_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_model(tmp_path / "source", b"")
    (source / "model.safetensors").unlink()
    torch.save({"a.weight": torch.zeros(4)}, source / "pytorch_model.bin")
    monkeypatch.delitem(sys.modules, "kindling.checkpoint.pickle_source", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert refusal(source, tmp_path / "store", allow_pickle=True).reason == "PICKLE_NEEDS_TORCH"


class _Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("use_zip", [True, False])
def test_a_pickle_with_code_runs_nothing(tmp_path: Path, use_zip: bool) -> None:
    source = write_model(tmp_path / "source", b"")
    (source / "model.safetensors").unlink()
    evil = {"a.weight": torch.zeros(4), "b": _Evil(tmp_path / "ran")}
    torch.save(evil, source / "pytorch_model.bin", _use_new_zipfile_serialization=use_zip)
    assert refusal(source, tmp_path / "store", allow_pickle=True).reason == "PICKLE_UNSAFE"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "data",
    [b"", b"garbage", pickle.dumps([1, 2], protocol=2), b"PK\x03\x04broken", b"\x80\x02u.", b"\x80\x02cos\nsystem\n."],
)
def test_a_broken_pickle(tmp_path: Path, data: bytes) -> None:
    source = write_model(tmp_path / "source", b"")
    (source / "model.safetensors").unlink()
    (source / "pytorch_model.bin").write_bytes(data)
    assert refusal(source, tmp_path / "store", allow_pickle=True).reason in {"PICKLE_INVALID", "PICKLE_UNSAFE"}


@pytest.mark.parametrize("chunk_bytes", [0, -4096, 1000, 2**40])
def test_impossible_chunk_size(tmp_path: Path, chunk_bytes: int) -> None:
    source = write_model(tmp_path / "source", ONE_TENSOR)
    with pytest.raises(InvalidArgumentError) as caught:
        pack(source, tmp_path / "store", chunk_bytes=chunk_bytes)
    assert caught.value.reason == "CHUNK_SIZE_INVALID"


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A directory that another user can reach, and that user's identity while the test runs."""
    directory = Path(tempfile.mkdtemp(prefix="kindling-unprivileged-"))
    directory.chmod(0o777)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield directory
    finally:
        os.seteuid(user)
        shutil.rmtree(directory)


@pytest.mark.parametrize("forbidden", ["source", "source/config.json", "source/model.safetensors"])
def test_no_permission(unprivileged: Path, forbidden: str) -> None:
    source = write_model(unprivileged / "source", ONE_TENSOR)
    (unprivileged / forbidden).chmod(0)
    error = refusal(source, unprivileged / "store")
    (unprivileged / forbidden).chmod(0o700)
    assert isinstance(error, PermissionDeniedError)
    assert error.reason == "SOURCE_NOT_READABLE"

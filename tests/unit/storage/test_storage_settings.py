"""Settings: human sizes, and values that would fail later are refused now."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from kindling.storage.settings import StorageSettings, parse_size


def settings(**values: Any) -> StorageSettings:
    return StorageSettings(**({"node_id": "n", "remote_uri": "file:///r", "cache_dir": Path("/c")} | values))


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("4GiB", 4 << 30), ("16 MiB", 16 << 20), ("1.5KB", 1500), ("123", 123), ("7B", 7), ("1TiB", 1 << 40)],
)
def test_sizes_take_units(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes
    assert settings(pool_bytes=text).pool_bytes == size_bytes


@pytest.mark.parametrize(
    "values",
    [
        {"pool_bytes": "4 gigs"},
        {"pool_bytes": "-1"},
        {"chunk_bytes": "5000"},
        {"remote_uri": "ftp://host/x"},
        {"remote_uri": "hf://org/name"},
        {"remote_uri": "s3:///x"},
        {"remote_uri": "https://user:secret@host/x"},
        {"remote_uri": "https://host/x?token=secret"},
        {"remote_uri": "file://relative/x"},
        {"node_id": "a/b"},
        {"node_id": ""},
        {"socket_path": Path("/" + "x" * 120)},
        {"head_fraction": 1.5},
    ],
)
def test_bad_values_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings(**values)


def test_the_socket_lies_in_the_cache_directory_unless_told_otherwise() -> None:
    assert settings().handover_socket == Path("/c/storage.sock")
    assert settings(socket_path=Path("/run/k.sock")).handover_socket == Path("/run/k.sock")
    assert settings(remote_uri="file:///a%20b").remote_directory == Path("/a b")


@pytest.mark.parametrize("uri", ["s3://bucket/a b", "gs://bucket", "az://container/x", "http://h:1/x", "https://h/x"])
def test_object_stores_have_no_directory(uri: str) -> None:
    assert settings(remote_uri=uri).remote_directory is None

"""Deploying from far away: object stores with and without a listing, packed or not, and the hub."""

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file

from kindling.platform.errors import (
    DataLossError,
    InvalidArgumentError,
    KindlingError,
    NotFoundError,
    UnavailableError,
)
from kindling.storage.adapters.bucket import Bucket, BucketAccess
from support.model_directories import import_model, make_model
from support.object_store import BUCKET, Fault, FaultyServer
from support.storage_checkpoint import make_checkpoint, partition_path
from support.storage_node import Place, storage_node

QUICK: dict[str, Any] = {"remote_timeout_seconds": 0.5, "remote_retries": 2}


@pytest.fixture
def node_place(tmp_path: Path) -> Place:
    """A node whose own remote store is a directory."""
    root = tmp_path / "node"
    root.mkdir()
    return Place(root)


def shard(model: Path) -> Path:
    """Split the weights into two shards with an index."""
    tensors = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    names = sorted(tensors)
    files = {"model-1.safetensors": names[:5], "model-2.safetensors": names[5:]}
    for file, members in files.items():
        save_file({name: tensors[name] for name in members}, model / file, metadata={"format": "pt"})
    weight_map = {name: file for file, members in files.items() for name in members}
    (model / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return model


async def digest_of(place: Place, uri: str) -> str:
    async with storage_node(place, **QUICK) as (_, stub):
        progress, imported = await import_model(stub, uri)
        fractions = [p.done_bytes / p.total_bytes for p in progress]
        assert fractions[-1] == 1.0
        assert fractions == sorted(fractions)
        assert not list((place.cache / "sources").glob("*"))
    return str(imported.digest)


@pytest.mark.parametrize("sharded", [False, True])
async def test_a_web_server_gives_what_a_directory_gives(
    place: Place, node_place: Place, server: FaultyServer, sharded: bool
) -> None:
    model = make_model(place.remote / "my model")
    if sharded:
        shard(model)
    (model / "notes.txt").write_text("not wanted")
    server.faults = [Fault.SERVER_ERROR, Fault.RESET]
    fetched = await digest_of(node_place, f"{server.uri}/my model")
    assert not server.faults
    assert not any("notes.txt" in request for request in server.requests)
    other = Place(node_place.root / "other")
    assert fetched == await digest_of(other, model.as_uri())


async def test_s3_gives_what_a_directory_gives(place: Place, node_place: Place, s3: None) -> None:
    model = shard(make_model(place.root / "model"))
    bucket = Bucket(f"s3://{BUCKET}/org/model", BucketAccess())
    for path in model.iterdir():
        data = path.read_bytes()
        await asyncio.to_thread(bucket.write, path.name, len(data), [data])
    fetched = await digest_of(node_place, bucket.uri)
    other = Place(node_place.root / "other")
    assert fetched == await digest_of(other, model.as_uri())


async def test_a_packed_checkpoint_is_copied_as_it_is(place: Place, node_place: Place, server: FaultyServer) -> None:
    manifest = make_checkpoint(place.remote, partitions=2)
    folder = partition_path(place.remote, manifest).parent.name
    assert await digest_of(node_place, f"{server.uri}/{folder}") == manifest.digest
    for partition in range(2):
        copied = partition_path(node_place.remote, manifest, partition)
        assert copied.read_bytes() == partition_path(place.remote, manifest, partition).read_bytes()


@pytest.mark.parametrize(
    ("change", "kind", "reason"),
    [
        ("no config", NotFoundError, "SOURCE_NOT_FOUND"),
        ("no weights", NotFoundError, "WEIGHTS_NOT_FOUND"),
        ("pickle", InvalidArgumentError, "PICKLE_REFUSED"),
        ("shard missing", KindlingError, "OBJECT_NOT_FOUND"),
        ("shard elsewhere", InvalidArgumentError, "PATH_ESCAPES"),
        ("shard in a folder", InvalidArgumentError, "PATH_ESCAPES"),
    ],
)
async def test_bad_locations_are_clear_errors(
    place: Place, node_place: Place, server: FaultyServer, change: str, kind: type[KindlingError], reason: str
) -> None:
    model = make_model(place.remote / "model")
    if change == "no config":
        (model / "config.json").unlink()
    elif change == "no weights":
        (model / "model.safetensors").unlink()
    elif change == "pickle":
        (model / "model.safetensors").rename(model / "pytorch_model.bin")
    else:
        shard(model)
        if change == "shard missing":
            (model / "model-2.safetensors").unlink()
        else:
            index = model / "model.safetensors.index.json"
            where = "../x.safetensors" if change == "shard elsewhere" else "sub/x.safetensors"
            index.write_text(json.dumps({"weight_map": {"a": where}}))
    await expect_failure(node_place, f"{server.uri}/model", kind, reason)


@pytest.mark.parametrize(
    ("fault", "kind", "reason"),
    [
        (Fault.SERVER_ERROR, UnavailableError, "REMOTE_UNAVAILABLE"),
        (Fault.SILENCE, UnavailableError, "REMOTE_UNAVAILABLE"),
        (Fault.SHORT_RANGE, UnavailableError, "REMOTE_UNAVAILABLE"),
    ],
)
async def test_a_store_that_keeps_failing_ends_the_import(
    place: Place, node_place: Place, server: FaultyServer, fault: Fault, kind: type[KindlingError], reason: str
) -> None:
    make_model(place.remote / "model")
    server.always = fault
    await expect_failure(node_place, f"{server.uri}/model", kind, reason)


async def test_a_packed_source_with_a_flipped_bit_is_refused(
    place: Place, node_place: Place, server: FaultyServer
) -> None:
    manifest = make_checkpoint(place.remote)
    server.always = Fault.FLIPPED
    folder = partition_path(place.remote, manifest).parent.name
    await expect_failure(node_place, f"{server.uri}/{folder}", DataLossError, "CHUNK_CORRUPT")


async def test_without_a_way_to_the_hub_the_error_says_so(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
        await expect_failure(place, "hf://org/name", UnavailableError, "HUB_UNREACHABLE")


async def test_bad_hub_names_are_refused(place: Place) -> None:
    await expect_failure(place, "hf://just-a-name", InvalidArgumentError, "SOURCE_INVALID")


async def expect_failure(place: Place, uri: str, kind: type[KindlingError], reason: str) -> None:
    async with storage_node(place, **QUICK) as (_, stub):
        with pytest.raises(kind) as caught:
            await import_model(stub, uri)
        assert caught.value.reason == reason
        assert not place.remote.exists() or not list(place.remote.glob("blake3*"))
        assert not list((place.cache / "sources").glob("*"))

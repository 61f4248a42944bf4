"""S3, as moto serves it: everything that the REMOTE tier does, through an object store that can be written."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from kindling.checkpoint import directory_name
from kindling.platform.errors import CancelledError, NotFoundError
from kindling.storage.adapters.bucket import Bucket, BucketAccess
from kindling.v1 import storage_pb2
from support.model_directories import import_model, make_model
from support.object_store import BUCKET
from support.storage_checkpoint import CHUNK_BYTES
from support.storage_node import Place, all_released, open_checkpoint, storage_node

URI = f"s3://{BUCKET}/some folder"
SETTINGS: dict[str, Any] = {"remote_uri": URI, "remote_timeout_seconds": 5.0, "remote_range_bytes": CHUNK_BYTES // 4}

pytestmark = pytest.mark.usefixtures("s3")


def bucket(path: str = "") -> Bucket:
    return Bucket(URI + path, BucketAccess(timeout_seconds=5.0, retries=1))


async def test_a_model_is_packed_loaded_and_deleted(place: Place) -> None:
    source = make_model(place.root / "model")
    async with storage_node(place, **SETTINGS) as (node, stub):
        progress, imported = await import_model(stub, source.as_uri())
        assert progress[-1].done_bytes == progress[-1].total_bytes > 0
        async with open_checkpoint(stub, imported.digest) as lease:
            report = await lease.loaded()
            assert sum(flow.bytes for flow in report.traffic) == imported.total_bytes
            assert (Path(lease.opened.files_directory) / "config.json").read_bytes() == (
                source / "config.json"
            ).read_bytes()
        await all_released(node)
        await stub.DeleteCheckpoint(storage_pb2.DeleteCheckpointRequest(digest=imported.digest))
    assert await bucket("/" + directory_name(imported.digest)).names() == frozenset()
    assert not list((place.cache / "packing").iterdir())


async def test_another_node_loads_what_one_has_packed(place: Place, tmp_path: Path) -> None:
    source = make_model(place.root / "model")
    async with storage_node(place, **SETTINGS) as (_, stub):
        _, imported = await import_model(stub, source.as_uri())
    other = Place(tmp_path / "other")
    async with storage_node(other, **SETTINGS) as (_, stub), open_checkpoint(stub, imported.digest) as lease:
        await lease.loaded()
        memory = await asyncio.to_thread(lease.take_memory)
        assert len(memory.content()) == imported.total_bytes
        memory.close()


async def test_an_upload_cut_short_is_not_there(place: Place) -> None:
    def content() -> Any:
        yield b"x" * (6 << 20)
        raise CancelledError("enough", reason="PACK_CANCELLED")

    with pytest.raises(CancelledError):
        await asyncio.to_thread(bucket().write, "data", 12 << 20, content())
    with pytest.raises(NotFoundError):
        await bucket().info("data")


async def test_without_its_manifest_a_checkpoint_is_not_there_and_can_be_packed_again(place: Place) -> None:
    source = make_model(place.root / "model")
    async with storage_node(place, **SETTINGS) as (_, stub):
        _, imported = await import_model(stub, source.as_uri())
    await bucket().delete(f"{directory_name(imported.digest)}/manifest.json")
    fresh = Place(place.root / "fresh")
    async with storage_node(fresh, **SETTINGS) as (_, stub):
        with pytest.raises(NotFoundError) as caught:
            async with open_checkpoint(stub, imported.digest):
                pass
        assert caught.value.reason == "CHECKPOINT_NOT_FOUND"
        _, again = await import_model(stub, source.as_uri())
        assert again == imported
        async with open_checkpoint(stub, again.digest) as lease:
            await lease.loaded()


async def test_large_objects_go_up_in_parts(place: Place) -> None:
    data = [bytes([part]) * (5 << 20) for part in range(7)]
    await asyncio.to_thread(bucket().write, "large", 35 << 20, iter(data))
    assert (await bucket().info("large")).size_bytes == 35 << 20
    into = memoryview(bytearray(3 << 20))
    await bucket().read_range("large", 9 << 20, into)
    assert bytes(into) == b"".join(data)[9 << 20 : 12 << 20]

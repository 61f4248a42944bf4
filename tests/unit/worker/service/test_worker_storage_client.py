"""Leases and memory from a storage manager, over a real channel and a real socket."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import torch

from kindling.checkpoint.manifest import Manifest, TensorEntry
from kindling.platform.clock import Clock, SystemClock
from kindling.platform.errors import (
    CancelledError,
    DataLossError,
    KindlingError,
    NotFoundError,
    PermissionDeniedError,
    UnavailableError,
)
from kindling.platform.rpc.channel import open_channel
from kindling.v1 import storage_pb2
from kindling.worker.adapters.storage_client import StorageClient
from kindling.worker.domain.instance import LoadProgress, Tier
from support.worker_service import ManualClock
from support.worker_storage import CHUNK, ScriptedStorage, make_manifest, scripted_storage

SIZE = 3 * CHUNK + 100
TENSORS = [
    TensorEntry("head", "F32", (2, 4), 4096, 32, 0),
    TensorEntry("middle", "BF16", (CHUNK,), 4128, 2 * CHUNK, 0),
    TensorEntry("tail", "I64", (10,), 3 * CHUNK + 16, 80, 0),
]


def make_data() -> bytes:
    return b"".join(index.to_bytes(4, "little") for index in range(SIZE // 4))


@asynccontextmanager
async def client_and_storage(
    directory: Path, clock: Clock | None = None, manifest: Manifest | None = None
) -> AsyncIterator[tuple[StorageClient, ScriptedStorage]]:
    manifest = manifest or make_manifest(SIZE, TENSORS)
    async with (
        scripted_storage(manifest, make_data(), directory) as (storage, address),
        open_channel(address, retry=False) as channel,
        StorageClient(channel, holder="node-a/worker-0", clock=clock or SystemClock()) as client,
    ):
        yield client, storage


async def test_tensors_are_views_of_the_mapped_file(tmp_path: Path) -> None:
    async with client_and_storage(tmp_path) as (client, storage):
        storage.finish()
        async with client.open(storage.manifest.digest, lambda _: None) as checkpoint:
            report = await checkpoint.loaded()
            weights = checkpoint.weights
            assert report.load_seconds == 0.25
            assert checkpoint.files_directory == Path("/files")
            assert list(weights.tensors) == ["head", "middle", "tail"]
            assert weights.tensors["head"].shape == (2, 4)
            whole = torch.frombuffer(bytearray(make_data()), dtype=torch.uint8)
            assert torch.equal(weights.tensor("head"), whole[4096:4128].view(torch.float32).view(2, 4))
            middle = weights.tensor("middle")
            assert torch.equal(middle.view(torch.int16), whole[4128 : 4128 + 2 * CHUNK].view(torch.int16))
            tail = weights.tensor("tail")
            assert torch.equal(tail, whole[3 * CHUNK + 16 : 3 * CHUNK + 96].view(torch.int64))
            # One storage, so that neighbours can be seen as one tensor.
            assert tail.untyped_storage().data_ptr() == middle.untyped_storage().data_ptr()
        await storage.until(active=0)


async def test_progress_counts_bytes_and_names_the_slowest_tier(tmp_path: Path) -> None:
    seen: list[LoadProgress] = []
    async with client_and_storage(tmp_path) as (client, storage):
        storage.arrive(0, 1)
        storage.arrive(1, 3)
        storage.finish()
        async with client.open(storage.manifest.digest, seen.append) as checkpoint:
            await checkpoint.loaded()
    assert seen == [
        LoadProgress(0, SIZE, None),
        LoadProgress(CHUNK, SIZE, Tier.SSD),
        LoadProgress(SIZE, SIZE, Tier.SSD),
    ]


async def test_a_tensor_is_waited_for_until_its_last_chunk(tmp_path: Path) -> None:
    arrived = asyncio.Queue[LoadProgress]()
    async with (
        client_and_storage(tmp_path) as (client, storage),
        client.open(storage.manifest.digest, arrived.put_nowait) as checkpoint,
    ):
        weights = checkpoint.weights
        middle = asyncio.create_task(asyncio.to_thread(weights.wait, ["middle"]))
        await arrived.get()
        storage.arrive(0, 2)
        await arrived.get()
        await asyncio.to_thread(weights.wait, ["head"])
        assert not weights.complete
        assert not middle.done()
        storage.arrive(2, 1)
        await middle
        tail = asyncio.create_task(asyncio.to_thread(weights.wait, ["head", "tail"]))
        storage.finish()
        await tail
        assert weights.complete


@pytest.mark.parametrize(
    "error",
    [
        DataLossError("chunk 2 of x is bad", reason="CHUNK_CORRUPT", metadata={"chunk": "2"}),
        UnavailableError("the remote store is away", reason="REMOTE_UNREACHABLE"),
    ],
    ids=lambda error: error.reason,
)
async def test_a_load_that_fails_wakes_everybody_with_its_error(tmp_path: Path, error: KindlingError) -> None:
    async with (
        client_and_storage(tmp_path) as (client, storage),
        client.open(storage.manifest.digest, lambda _: None) as checkpoint,
    ):
        waiting = asyncio.create_task(asyncio.to_thread(checkpoint.weights.wait, ["tail"]))
        storage.script.put_nowait(error)
        with pytest.raises(type(error)) as caught:
            await checkpoint.loaded()
        assert (caught.value.reason, caught.value.metadata) == (error.reason, error.metadata)
        with pytest.raises(type(error)):
            await waiting
        await storage.until(active=0, leases=1)


async def test_what_the_storage_manager_refuses_is_raised_as_it_said(tmp_path: Path) -> None:
    async with client_and_storage(tmp_path) as (client, storage):
        storage.open_error = NotFoundError("no such checkpoint", reason="CHECKPOINT_NOT_FOUND")
        with pytest.raises(NotFoundError) as caught:
            async with client.open(storage.manifest.digest, lambda _: None):
                raise AssertionError("it must not open")
        assert caught.value.reason == "CHECKPOINT_NOT_FOUND"


async def test_a_refused_hand_over_gives_the_lease_back(tmp_path: Path) -> None:
    async with client_and_storage(tmp_path) as (client, storage):
        storage.token = "wrong"
        with pytest.raises(PermissionDeniedError):
            async with client.open(storage.manifest.digest, lambda _: None):
                raise AssertionError("it must not open")
        await storage.until(active=0, leases=1)


async def test_a_load_that_fails_before_the_hand_over_says_why(tmp_path: Path) -> None:
    async with client_and_storage(tmp_path) as (client, storage):
        storage.token = "forgotten"
        storage.script.put_nowait(DataLossError("chunk 0 of x is bad", reason="CHUNK_CORRUPT"))
        with pytest.raises(DataLossError) as caught:
            async with client.open(storage.manifest.digest, lambda _: None):
                raise AssertionError("it must not open")
        assert caught.value.reason == "CHUNK_CORRUPT"


async def test_a_socket_that_is_not_there_gives_the_lease_back(tmp_path: Path) -> None:
    async with client_and_storage(tmp_path) as (client, storage):
        storage.socket_path = tmp_path / "nobody.sock"
        with pytest.raises(UnavailableError) as caught:
            async with client.open(storage.manifest.digest, lambda _: None):
                raise AssertionError("it must not open")
        assert caught.value.reason == "HANDOVER_FAILED"
        await storage.until(active=0, leases=1)


async def test_memory_that_does_not_fit_the_manifest_is_refused(tmp_path: Path) -> None:
    other = make_manifest(CHUNK, [TensorEntry("head", "F32", (2, 4), 0, 32, 0)])
    async with client_and_storage(tmp_path, manifest=other) as (client, storage):
        with pytest.raises(DataLossError) as caught:
            async with client.open(storage.manifest.digest, lambda _: None):
                raise AssertionError("it must not open")
        assert caught.value.reason == "EXTENT_INVALID"
        await storage.until(active=0, leases=1)


async def test_giving_up_wakes_the_engine(tmp_path: Path) -> None:
    async with (
        client_and_storage(tmp_path) as (client, storage),
        client.open(storage.manifest.digest, lambda _: None) as checkpoint,
    ):
        waiting = asyncio.create_task(asyncio.to_thread(checkpoint.weights.wait, ["tail"]))
        checkpoint.give_up()
        with pytest.raises(CancelledError) as caught:
            await waiting
        assert caught.value.reason == "LOAD_GIVEN_UP"


async def test_a_lease_that_breaks_after_loading_is_taken_anew(tmp_path: Path) -> None:
    clock = ManualClock()
    async with client_and_storage(tmp_path, clock) as (client, storage):
        storage.finish()
        async with client.open(storage.manifest.digest, lambda _: None) as checkpoint:
            await checkpoint.loaded()
            head = checkpoint.weights.tensor("head").clone()
            closed = storage_pb2.CheckpointClosed(reason="drains")
            storage.script.put_nowait(storage_pb2.OpenCheckpointResponse(closed=closed))
            storage.script.put_nowait(None)
            await storage.until(active=0)
            storage.open_error = UnavailableError("still starting", reason="NOT_READY")
            await clock.advance(10)
            await clock.advance(10)
            await storage.until(active=1, leases=2)
            storage.finish()
            assert torch.equal(checkpoint.weights.tensor("head"), head)
        await storage.until(active=0, leases=2)


async def test_a_checkpoint_in_use_survives_the_storage_manager(tmp_path: Path) -> None:
    manifest = make_manifest(SIZE, TENSORS)
    async with scripted_storage(manifest, make_data(), tmp_path) as (storage, address):
        channel = open_channel(address, retry=False)
        client = StorageClient(channel, holder="w", clock=ManualClock())
        await client.__aenter__()
        opening = client.open(manifest.digest, lambda _: None)
        storage.finish()
        checkpoint = await opening.__aenter__()
        await checkpoint.loaded()
    whole = torch.frombuffer(bytearray(make_data()), dtype=torch.uint8)
    assert torch.equal(checkpoint.weights.tensor("head").flatten(), whole[4096:4128].view(torch.float32))
    await opening.__aexit__(None, None, None)
    await client.__aexit__(None, None, None)
    await channel.close()


async def test_descriptors_are_closed_once_mapped(tmp_path: Path) -> None:
    async with client_and_storage(tmp_path) as (client, storage):
        storage.finish()
        async with client.open(storage.manifest.digest, lambda _: None) as checkpoint:
            await checkpoint.loaded()
            await asyncio.to_thread(storage.handed_over.wait)
            assert "/memfd:chunk (deleted)" not in open_files()


def open_files() -> list[str]:
    """Names of what this process has open."""
    names = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            names.append(str(entry.readlink()))
    return names

"""An HTTP store that fails: a load is repaired by asking again, or ends in an error that says where; never in wrong
weights, and never in a sealed copy of them.
"""

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import pytest

from kindling.checkpoint.manifest import Manifest
from kindling.platform.errors import (
    DataLossError,
    FailedPreconditionError,
    KindlingError,
    NotFoundError,
    PermissionDeniedError,
    UnavailableError,
)
from kindling.platform.rpc.channel import remote_errors
from kindling.v1 import checkpoint_pb2, storage_pb2
from support.object_store import Fault, FaultyServer
from support.storage_checkpoint import CHUNK_BYTES, CONFIG, make_checkpoint, partition_path
from support.storage_node import Place, all_released, open_checkpoint, storage_node

QUICK = {"remote_timeout_seconds": 0.2, "remote_retries": 2, "remote_range_bytes": CHUNK_BYTES // 2}


def settings(server: FaultyServer) -> dict[str, Any]:
    return QUICK | {"remote_uri": server.uri}


async def load(place: Place, server: FaultyServer, manifest: Manifest) -> bytes:
    """Load the checkpoint; return what a worker sees of it."""
    async with storage_node(place, **settings(server)) as (node, stub):
        async with open_checkpoint(stub, manifest.digest) as lease:
            report = await lease.loaded()
            assert {flow.bytes for flow in report.traffic if getattr(flow, "from") == checkpoint_pb2.TIER_REMOTE} == {
                manifest.total_bytes
            }
            memory = await asyncio.to_thread(lease.take_memory)
            content = memory.content()
            memory.close()
        await all_released(node)
    return content


def sealed_copies(place: Place) -> list[Path]:
    return [path for path in place.copies.iterdir() if path.suffix == ""]


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    "faults",
    [
        [],
        [Fault.SERVER_ERROR, Fault.SERVER_ERROR],
        [Fault.TOO_MANY],
        [Fault.SHORT_BODY],
        [Fault.LONG_LENGTH],
        [Fault.SHORT_LENGTH],
        [Fault.RESET, Fault.RESET],
        [Fault.SILENCE],
        [Fault.CLOSED],
        [Fault.FLIPPED],
    ],
    ids=lambda faults: "+".join(fault.name for fault in faults) or "none",
)
async def test_what_passes_is_repaired(place: Place, server: FaultyServer, faults: list[Fault]) -> None:
    manifest = make_checkpoint(place.remote)
    server.faults = list(faults)
    content = await load(place, server, manifest)
    expected = partition_path(place.remote, manifest).read_bytes()
    assert sha(content) == sha(expected)
    assert not server.faults
    (copy,) = sealed_copies(place)
    assert sha((copy / "partition-0.safetensors").read_bytes()) == sha(expected)


@pytest.mark.parametrize(
    ("fault", "kind", "reason"),
    [
        (Fault.SERVER_ERROR, UnavailableError, "REMOTE_UNAVAILABLE"),
        (Fault.SHORT_BODY, UnavailableError, "REMOTE_UNAVAILABLE"),
        (Fault.SHORT_RANGE, UnavailableError, "REMOTE_UNAVAILABLE"),
        (Fault.WHOLE, UnavailableError, "REMOTE_UNAVAILABLE"),
        (Fault.RESET, UnavailableError, "REMOTE_UNAVAILABLE"),
        (Fault.SILENCE, UnavailableError, "REMOTE_UNAVAILABLE"),
        (Fault.CLOSED, UnavailableError, "REMOTE_UNAVAILABLE"),
        (Fault.NOT_FOUND, DataLossError, "CHUNK_UNREADABLE"),
        (Fault.FORBIDDEN, PermissionDeniedError, "REMOTE_FORBIDDEN"),
        (Fault.FLIPPED, DataLossError, "CHUNK_CORRUPT"),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else "",
)
async def test_what_stays_is_a_clear_error(
    place: Place, server: FaultyServer, fault: Fault, kind: type[KindlingError], reason: str
) -> None:
    manifest = make_checkpoint(place.remote)
    server.always = fault
    async with storage_node(place, **settings(server)) as (node, stub):
        async with open_checkpoint(stub, manifest.digest) as lease:
            with pytest.raises(kind, match=server.uri) as caught:
                await lease.loaded()
        assert caught.value.reason == reason
        assert caught.value.metadata["chunk"].isdigit()
        assert f"chunk {caught.value.metadata['chunk']}" in caught.value.message
        await all_released(node)
        assert not sealed_copies(place)
        # Once the store is well again, so is the load.
        server.always = None
        async with open_checkpoint(stub, manifest.digest) as lease:
            await lease.loaded()
            memory = await asyncio.to_thread(lease.take_memory)
            assert sha(memory.content()) == sha(partition_path(place.remote, manifest).read_bytes())
            memory.close()


@pytest.mark.parametrize(
    ("fault", "kind", "reason"),
    [
        (Fault.SERVER_ERROR, UnavailableError, "REMOTE_UNAVAILABLE"),
        (Fault.FORBIDDEN, PermissionDeniedError, "REMOTE_FORBIDDEN"),
        (Fault.FLIPPED, DataLossError, "MANIFEST_INVALID"),
    ],
)
async def test_a_manifest_that_cannot_be_had(
    place: Place, server: FaultyServer, fault: Fault, kind: type[KindlingError], reason: str
) -> None:
    manifest = make_checkpoint(place.remote)
    server.victims, server.always = "manifest.json", fault
    async with storage_node(place, **settings(server)) as (_, stub):
        with pytest.raises(kind) as caught:
            async with open_checkpoint(stub, manifest.digest):
                pass
    assert caught.value.reason == reason


async def test_a_checkpoint_that_is_not_there(place: Place, server: FaultyServer) -> None:
    async with storage_node(place, **settings(server)) as (_, stub):
        with pytest.raises(NotFoundError) as caught:
            async with open_checkpoint(stub, "blake3:" + "0" * 64):
                pass
    assert caught.value.reason == "CHECKPOINT_NOT_FOUND"


@pytest.mark.parametrize("fault", [Fault.FLIPPED, Fault.NOT_FOUND])
async def test_bad_small_files_are_refused(place: Place, server: FaultyServer, fault: Fault) -> None:
    manifest = make_checkpoint(place.remote)
    server.victims, server.always = "config.json", fault
    async with storage_node(place, **settings(server)) as (_, stub):
        with pytest.raises(DataLossError, match=r"config\.json"):
            async with open_checkpoint(stub, manifest.digest):
                pass
        server.always = None
        async with open_checkpoint(stub, manifest.digest) as lease:
            assert (Path(lease.opened.files_directory) / "config.json").read_bytes() == CONFIG


async def test_an_unreachable_store_is_said_to_be_so(place: Place, server: FaultyServer) -> None:
    with FaultyServer(place.root).serving() as gone:
        pass
    async with storage_node(place, **settings(gone)) as (_, stub):
        with pytest.raises(UnavailableError, match=gone.uri) as caught:
            async with open_checkpoint(stub, "blake3:" + "0" * 64):
                pass
    assert caught.value.reason == "REMOTE_UNAVAILABLE"


async def test_a_copy_on_the_node_needs_no_store(place: Place, server: FaultyServer) -> None:
    manifest = make_checkpoint(place.remote)
    await load(place, server, manifest)
    asked = len(server.requests)
    async with storage_node(place, **settings(server)) as (_, stub), open_checkpoint(stub, manifest.digest) as lease:
        report = await lease.loaded()
        assert [getattr(flow, "from") for flow in report.traffic] == [checkpoint_pb2.TIER_SSD]
    assert len(server.requests) == asked


async def test_a_web_server_can_only_be_read(place: Place, server: FaultyServer) -> None:
    manifest = make_checkpoint(place.remote)
    async with storage_node(place, **settings(server)) as (_, stub):
        request = storage_pb2.ImportCheckpointRequest(source_uri=place.root.as_uri())
        with pytest.raises(FailedPreconditionError) as caught, remote_errors("storage"):
            await stub.ImportCheckpoint(request).read()
        assert caught.value.reason == "REMOTE_READ_ONLY"
        with remote_errors("storage"):
            await stub.DeleteCheckpoint(storage_pb2.DeleteCheckpointRequest(digest=manifest.digest))
    assert partition_path(place.remote, manifest).is_file()


async def test_a_packed_checkpoint_that_the_store_has_is_imported_by_knowing_it(
    place: Place, server: FaultyServer
) -> None:
    manifest = make_checkpoint(place.remote)
    uri = f"{server.uri}/{partition_path(place.remote, manifest).parent.name}"
    async with storage_node(place, **settings(server)) as (_, stub):
        with remote_errors("storage"):
            events = [e async for e in stub.ImportCheckpoint(storage_pb2.ImportCheckpointRequest(source_uri=uri))]
    assert [event.imported.digest for event in events] == [manifest.digest]
    assert not [path for path in server.requests if path.endswith(".safetensors")]

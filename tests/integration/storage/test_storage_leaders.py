"""A storage manager heeds the latest leader that it has heard of, and no earlier one."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from kindling.platform.errors import FailedPreconditionError
from kindling.platform.rpc.channel import remote_errors
from kindling.v1 import checkpoint_pb2, storage_pb2
from support.model_directories import make_model
from support.storage_checkpoint import CHUNK_BYTES, make_checkpoint
from support.storage_node import Place, storage_node

Ask = Callable[[Any, str, int], Awaitable[Any]]


async def prefetch(stub: Any, digest: str, revision: int) -> None:
    request = storage_pb2.PrefetchCheckpointRequest(
        digest=digest, head_bytes=CHUNK_BYTES, unused_limit_bytes=CHUNK_BYTES, leader_revision=revision
    )
    await stub.PrefetchCheckpoint(request)


async def evict(stub: Any, digest: str, revision: int) -> None:
    keep = checkpoint_pb2.TIER_REMOTE
    await stub.EvictCheckpoint(storage_pb2.EvictCheckpointRequest(digest=digest, keep=keep, leader_revision=revision))


async def delete(stub: Any, digest: str, revision: int) -> None:
    await stub.DeleteCheckpoint(storage_pb2.DeleteCheckpointRequest(digest=digest, leader_revision=revision))


async def verify(stub: Any, digest: str, revision: int) -> None:
    request = storage_pb2.VerifyCheckpointRequest(digest=digest, repair=True, leader_revision=revision)
    async for _ in stub.VerifyCheckpoint(request):
        pass


async def status(stub: Any, _digest: str, revision: int) -> None:
    await stub.GetStorageStatus(storage_pb2.GetStorageStatusRequest(leader_revision=revision))


@pytest.mark.parametrize("ask", [prefetch, evict, delete, verify, status])
async def test_an_earlier_leader_is_refused_and_changes_nothing(place: Place, ask: Ask) -> None:
    manifest = make_checkpoint(place.remote)
    async with storage_node(place) as (node, stub):
        await status(stub, "", 7)
        with pytest.raises(FailedPreconditionError) as told, remote_errors("storage"):
            await ask(stub, manifest.digest, 6)
        assert told.value.reason == "LEADER_DEPOSED"
        assert told.value.metadata["later_revision"] == "7"
        assert (await node.tiers.remote.manifest(manifest.digest)).digest == manifest.digest


async def test_an_import_of_an_earlier_leader_is_refused(place: Place) -> None:
    source = make_model(place.root / "model")
    async with storage_node(place) as (_, stub):
        await status(stub, "", 7)
        for revision, is_heeded in ((6, False), (7, True)):
            request = storage_pb2.ImportCheckpointRequest(
                request_id=f"r{revision}", source_uri=source.as_uri(), leader_revision=revision
            )
            if is_heeded:
                assert [event async for event in stub.ImportCheckpoint(request)][-1].HasField("imported")
                continue
            with pytest.raises(FailedPreconditionError) as told, remote_errors("storage"):
                _ = [event async for event in stub.ImportCheckpoint(request)]
            assert told.value.reason == "LEADER_DEPOSED"


async def test_the_same_leader_a_later_one_and_nobody_are_heeded(place: Place) -> None:
    manifest = make_checkpoint(place.remote)
    async with storage_node(place) as (_, stub):
        for revision in (7, 7, 8, 0, 8):
            for ask in (verify, evict, status):
                await ask(stub, manifest.digest, revision)

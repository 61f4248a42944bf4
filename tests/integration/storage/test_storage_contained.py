"""A bug that shows in one call is that call's alone."""

import asyncio
from typing import Any

import pytest

from kindling.platform.errors import InternalError
from kindling.platform.rpc.channel import remote_errors
from kindling.storage.contained import outcome
from kindling.v1 import storage_pb2
from support.storage_checkpoint import make_checkpoint
from support.storage_node import Place, all_released, open_checkpoint, storage_node


async def _broken(*_args: Any, **_kwargs: Any) -> None:
    raise ZeroDivisionError("nobody foresaw this")


async def load(stub: Any, digest: str) -> None:
    async with open_checkpoint(stub, digest) as lease:
        await lease.loaded()


async def test_an_unforeseen_error_fails_its_load_alone(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    bad, good = make_checkpoint(place.remote, seed=1), make_checkpoint(place.remote, seed=2)
    async with storage_node(place) as (node, stub):
        async with open_checkpoint(stub, good.digest, holder="bystander") as bystander:
            await bystander.loaded()
            with monkeypatch.context() as patch:
                patch.setattr(node.tiers.remote, "open", _broken)
                with pytest.raises(InternalError, match="nobody foresaw this") as caught:
                    await load(stub, bad.digest)
            assert caught.value.reason == "UNEXPECTED_ERROR"
            assert [lease.holder for lease in node.use_cases.opens.leases()] == ["bystander"]
            await load(stub, bad.digest)
        await all_released(node)
        node.tiers.pool.check_integrity()


async def test_an_unforeseen_error_fails_its_import_alone(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    good = make_checkpoint(place.remote)
    async with storage_node(place) as (node, stub):
        monkeypatch.setattr(node.tiers.remote, "pack", _broken)
        call = stub.ImportCheckpoint(storage_pb2.ImportCheckpointRequest(source_uri=f"file://{place.root}"))
        with pytest.raises(InternalError, match="nobody foresaw this"), remote_errors("storage"):
            await call.read()
        async with open_checkpoint(stub, good.digest) as lease:
            assert await lease.loaded()


async def test_a_clean_up_that_breaks_does_not_leave_the_next_caller_waiting(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = make_checkpoint(place.remote)
    async with storage_node(place) as (node, stub):
        with monkeypatch.context() as patch:
            patch.setattr(node.tiers.remote, "open", _broken)
            patch.setattr(node.tiers.ledger, "unpin", _divide)
            async with open_checkpoint(stub, manifest.digest) as lease:
                with pytest.raises(InternalError):
                    await lease.next_event()
        await all_released(node)
        await load(stub, manifest.digest)


def _divide(_digest: str) -> None:
    raise ZeroDivisionError


async def test_cancelling_reaches_the_work() -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = asyncio.create_task(_discard(outcome(work(), "waiting")))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def _discard(work: Any) -> None:
    await work

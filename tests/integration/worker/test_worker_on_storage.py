"""A worker on a real storage manager: the same tokens as transformers, and no second copy of the weights."""

import asyncio
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from integration.worker.conftest import storage_settings
from kindling.platform.errors import NotFoundError
from kindling.platform.rpc.channel import open_channel, remote_errors
from kindling.storage.app import StorageNode, running
from kindling.v1 import checkpoint_pb2, inference_pb2, inference_pb2_grpc
from support.checkpoints import make_checkpoint
from support.etcd_server import EtcdServer
from support.worker_process import worker_process
from support.worker_with_storage import (
    generate_with_transformers,
    greedy,
    import_checkpoint,
    leases,
    loaded_report,
    start_instance,
    worker_in_this_process,
)

PROMPT = (5, 17, 300, 42, 8)


async def test_tokens_equal_those_of_transformers_from_every_tier(storage: StorageNode, tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "source", "llama", sharded=True)
    expected = await asyncio.to_thread(generate_with_transformers, source, PROMPT, 24)
    digest = await import_checkpoint(storage.server.address, source)
    async with AsyncExitStack() as resources:
        stub = (await worker_in_this_process(storage.server.address, resources)).stub
        for tier in (checkpoint_pb2.TIER_REMOTE, checkpoint_pb2.TIER_DRAM):
            await start_instance(stub, digest)
            report = await loaded_report(stub)
            assert [getattr(flow, "from") for flow in report.traffic] == [tier]
            assert report.total_seconds >= report.load_seconds
            assert await greedy(stub, PROMPT, 24) == expected
            assert await leases(storage.server.address) == ["node-a/worker-0"]
            await stub.StopInstance(inference_pb2.StopInstanceRequest(instance_id="m-1"))
            assert await leases(storage.server.address) == []


@pytest.mark.parametrize("pool_bytes", [0, 2**20], ids=["no-pool", "pool-of-one-chunk"])
async def test_what_does_not_fit_the_pool_is_read_from_the_disk(tmp_path: Path, pool_bytes: int) -> None:
    source = make_checkpoint(tmp_path / "source", "qwen2", tied=True, hidden_size=128, layers=4)
    expected = await asyncio.to_thread(generate_with_transformers, source, PROMPT, 12)
    async with running(storage_settings(tmp_path, pool_bytes=pool_bytes)) as storage, AsyncExitStack() as resources:
        digest = await import_checkpoint(storage.server.address, source)
        stub = (await worker_in_this_process(storage.server.address, resources)).stub
        await start_instance(stub, digest)
        assert await greedy(stub, PROMPT, 12) == expected


async def test_huge_pages_serve_the_same_tokens(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "source", "llama", hidden_size=128)
    expected = await asyncio.to_thread(generate_with_transformers, source, PROMPT, 12)
    settings = storage_settings(tmp_path, huge_pages=True, reserve_huge_pages=True, chunk_bytes=2**21, pool_bytes=2**23)
    async with running(settings) as storage, AsyncExitStack() as resources:
        digest = await import_checkpoint(storage.server.address, source)
        stub = (await worker_in_this_process(storage.server.address, resources)).stub
        await start_instance(stub, digest)
        assert await greedy(stub, PROMPT, 12) == expected


async def test_an_unknown_checkpoint_fails_the_start(storage: StorageNode) -> None:
    async with AsyncExitStack() as resources:
        stub = (await worker_in_this_process(storage.server.address, resources)).stub
        with pytest.raises(NotFoundError), remote_errors("the worker"):
            await start_instance(stub, "blake3:" + "0" * 64)


async def test_weights_are_shared_read_only_and_go_with_the_process(
    storage: StorageNode, etcd_server: EtcdServer, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_checkpoint(tmp_path / "source", "llama", hidden_size=576, layers=4)
    digest = await import_checkpoint(storage.server.address, source)
    address = storage.server.address
    async with (
        worker_process(etcd_server.endpoint, prefix, tmp_path / "log", storage_address=address) as worker,
        open_channel(worker.address) as channel,
    ):
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        before = worker.private_bytes()
        await start_instance(stub, digest)
        weights_bytes = sum(flow.bytes for flow in (await loaded_report(stub)).traffic)
        assert weights_bytes > 40 * 2**20
        assert len(await greedy(stub, PROMPT, 4)) == 4
        assert weights_bytes <= worker.mapped_bytes("memfd:") < weights_bytes + 2**22
        assert worker.private_bytes("memfd:") == 0
        assert worker.private_bytes() - before < weights_bytes / 2
        assert set(worker.shared_mappings("memfd:")) == {"r--s"}
        assert await leases(address) == ["node-a/worker-0"]
        released = asyncio.Event()
        monkeypatch.setattr(storage.publisher, "note", lambda *_: released.set())
        worker.process.send_signal(signal.SIGKILL)
        await worker.process.wait()
        async with asyncio.timeout(20):
            await released.wait()
        assert await leases(address) == []

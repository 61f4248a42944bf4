"""Instances on a real storage manager that generate while their chunks arrive, and what may go wrong meanwhile."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from integration.worker.conftest import storage_settings
from kindling.platform.errors import DataLossError, KindlingError, UnavailableError
from kindling.platform.rpc.channel import remote_errors
from kindling.storage.app import running
from kindling.v1 import inference_pb2
from support.checkpoints import make_checkpoint
from support.storage_node import Place
from support.storage_process import storage_process
from support.worker_service import generate_request
from support.worker_with_storage import (
    WorkerOnStorage,
    generate_with_transformers,
    greedy,
    import_checkpoint,
    leases,
    loaded_report,
    start_instance,
    worker_in_this_process,
)

PROMPT = (5, 17, 300, 42, 8)
SHAPE = {"hidden_size": 192, "layers": 8, "dtype": "bfloat16"}
CHUNK_BYTES = 2**18
# Slow enough that a layer runs in much less time than a chunk takes to arrive.
SLOW = {"chunk_bytes": CHUNK_BYTES, "remote_read_limit": 12 * CHUNK_BYTES}


@pytest.mark.parametrize(
    ("architecture", "tied"), [("llama", False), ("llama", True), ("mixtral", False)], ids=["dense", "tied", "experts"]
)
async def test_layers_run_before_the_last_chunk_arrives_and_tokens_are_the_same(
    tmp_path: Path, architecture: str, tied: bool
) -> None:
    source = make_checkpoint(tmp_path / "source", architecture, tied=tied, **SHAPE)
    expected = await asyncio.to_thread(generate_with_transformers, source, PROMPT, 12)
    limit = {"remote_read_limit": 40 * CHUNK_BYTES} if architecture == "mixtral" else {}
    async with running(storage_settings(tmp_path, **SLOW | limit)) as storage, AsyncExitStack() as resources:
        digest = await import_checkpoint(storage.server.address, source)
        worker = await worker_in_this_process(storage.server.address, resources)
        assert not (await start_instance(worker.stub, digest)).ready.complete
        assert await greedy(worker.stub, PROMPT, 12) == expected
        first_pass = worker.engines.chunks_missing[: SHAPE["layers"]]
        assert first_pass == sorted(first_pass, reverse=True)
        assert first_pass[0], "the first layer ran before the last chunk had arrived"
        report = await loaded_report(worker.stub)
        assert sum(flow.bytes for flow in report.traffic) > 8 * CHUNK_BYTES
        assert report.total_seconds >= report.load_seconds


async def test_a_chunk_that_is_bad_everywhere_fails_the_generations_that_wait_for_it(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "source", "llama", **SHAPE)
    async with running(storage_settings(tmp_path, **SLOW)) as storage, AsyncExitStack() as resources:
        digest = await import_checkpoint(storage.server.address, source)
        await asyncio.to_thread(_spoil, tmp_path / "remote")
        worker = await worker_in_this_process(storage.server.address, resources)
        await start_instance(worker.stub, digest)
        calls = [worker.stub.Generate(generate_request(name)) for name in ("g1", "g2")]
        for call in calls:
            assert (await _error_of(call, DataLossError)).reason == "CHUNK_CORRUPT"
        await worker.until_gone()
        assert await leases(storage.server.address) == []


async def test_a_storage_manager_killed_while_it_loads_fails_the_generation_and_serves_again(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "source", "llama", **SHAPE)
    expected = await asyncio.to_thread(generate_with_transformers, source, PROMPT, 12)
    place = _place(tmp_path)
    async with storage_process(place, **SLOW, pool_bytes=2**25) as storage, AsyncExitStack() as resources:
        digest = await import_checkpoint(storage.address, source)
        worker = await worker_in_this_process(storage.address, resources)
        await start_instance(worker.stub, digest)
        call = worker.stub.Generate(generate_request())
        await asyncio.to_thread(worker.engines.first_layer.wait)
        await storage.kill()
        await _error_of(call, UnavailableError)
        await worker.until_gone()
        async with storage_process(place, listen_address=storage.address, pool_bytes=2**25):
            await _start_once_it_is_back(worker, digest)
            assert await greedy(worker.stub, PROMPT, 12) == expected


async def test_stopping_an_instance_that_loads_gives_the_lease_back(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "source", "llama", **SHAPE)
    async with running(storage_settings(tmp_path, **SLOW)) as storage, AsyncExitStack() as resources:
        digest = await import_checkpoint(storage.server.address, source)
        worker = await worker_in_this_process(storage.server.address, resources)
        await start_instance(worker.stub, digest)
        request = inference_pb2.StopInstanceRequest(instance_id="m-1")
        request.grace.FromSeconds(0)
        call = worker.stub.Generate(generate_request())
        await asyncio.to_thread(worker.engines.first_layer.wait)
        await worker.stub.StopInstance(request)
        assert (await _error_of(call, UnavailableError)).reason == "ENGINE_CLOSED"
        assert await leases(storage.server.address) == []
        assert worker.engines.chunks_missing[-1], "the load was given up before it was over"


async def _start_once_it_is_back(worker: WorkerOnStorage, digest: str) -> None:
    """The worker's channel may take a moment to see that somebody listens again."""
    while True:
        try:
            with remote_errors("the worker"):
                await start_instance(worker.stub, digest)
        except UnavailableError:
            await worker.until_gone()
        else:
            return


async def _error_of(call: Any, kind: type[KindlingError]) -> KindlingError:
    with pytest.raises(kind) as caught, remote_errors("the worker"):
        await _drain(call)
    return caught.value


async def _drain(call: Any) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass


def _place(directory: Path) -> Place:
    place = Place(directory)
    place.remote.mkdir()
    place.cache.mkdir()
    return place


def _spoil(directory: Path) -> None:
    """Flip a byte at the end of every data file."""
    for path in directory.rglob("*.safetensors"):
        data = bytearray(path.read_bytes())
        data[-5] ^= 1
        path.chmod(0o644)
        path.write_bytes(bytes(data))

"""Parked models on a real storage manager: they start anew at once, and give way as soon as their room is needed."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from integration.worker.conftest import storage_settings
from kindling.platform.rpc.channel import open_channel
from kindling.storage.app import StorageNode, running
from kindling.v1 import checkpoint_pb2, inference_pb2, inference_pb2_grpc, storage_pb2, storage_pb2_grpc
from kindling.worker import app as worker_app
from kindling.worker.adapters.arena_weights import ArenaWeights
from kindling.worker.adapters.cpu_copier import CpuCopier
from kindling.worker.parking import ParkingLimits
from support.checkpoints import make_checkpoint
from support.etcd_server import EtcdServer
from support.worker_process import worker_process
from support.worker_with_storage import (
    WorkerOnStorage,
    greedy,
    import_checkpoint,
    leases,
    loaded_report,
    start_instance,
    worker_in_this_process,
)

PROMPT = (5, 17, 300, 42, 8)
SEVERAL = ParkingLimits(models=3)
GPU, SSD, REMOTE = checkpoint_pb2.TIER_GPU, checkpoint_pb2.TIER_SSD, checkpoint_pb2.TIER_REMOTE


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three models of about seven chunks each."""
    root = tmp_path_factory.mktemp("models")
    return [make_checkpoint(root / str(seed), hidden_size=256, layers=4, seed=seed) for seed in range(3)]


@asynccontextmanager
async def worker_on(storage: StorageNode, limits: ParkingLimits = SEVERAL) -> AsyncIterator[WorkerOnStorage]:
    async with AsyncExitStack() as resources:
        yield await worker_in_this_process(storage.server.address, resources, limits)


async def run(worker: WorkerOnStorage, digest: str) -> tuple[checkpoint_pb2.LoadReport, list[int]]:
    """Start, generate, stop; return the report and the tokens."""
    await start_instance(worker.stub, digest)
    report = await loaded_report(worker.stub)
    found = await greedy(worker.stub, PROMPT, 12)
    await worker.stub.StopInstance(inference_pb2.StopInstanceRequest(instance_id="m-1"))
    return report, found


def tiers(report: checkpoint_pb2.LoadReport) -> list[int]:
    return [getattr(flow, "from") for flow in report.traffic]


def parked(worker: WorkerOnStorage) -> list[str]:
    return [one.digest for one in worker.instances.view.parked]


async def until_parked(worker: WorkerOnStorage, digests: list[str]) -> None:
    while parked(worker) != digests:
        await worker.instances._changes.upcoming.wait()


async def sealed(storage: StorageNode) -> None:
    for holding in storage.use_cases.opens.holdings():
        await holding.load_ended.wait()


async def test_a_parked_model_starts_at_once_with_the_same_tokens(storage: StorageNode, sources: list[Path]) -> None:
    digest = await import_checkpoint(storage.server.address, sources[0])
    async with worker_on(storage) as worker:
        _, expected = await run(worker, digest)
        assert parked(worker) == [digest]
        for _ in range(3):
            began = time.perf_counter()
            report, found = await run(worker, digest)
            assert found == expected
            assert tiers(report) == [GPU]
            assert report.complete
            assert report.total_seconds < 0.1
            assert time.perf_counter() - began < 5
        assert parked(worker) == [digest]
        assert await leases(storage.server.address) == ["node-a/worker-0"]
        assert storage.tiers.pool.pinned_bytes == 0
    assert await leases(storage.server.address) == []


async def test_what_is_parked_is_told_to_those_who_watch(storage: StorageNode, sources: list[Path]) -> None:
    digest = await import_checkpoint(storage.server.address, sources[0])
    async with worker_on(storage) as worker:
        await run(worker, digest)
        watch = worker.stub.WatchWorker(inference_pb2.WatchWorkerRequest())
        view = await watch.read()
        assert [(one.digest, one.bytes) for one in view.parked] == [
            (digest, worker.instances.view.parked[0].size_bytes)
        ]
        await start_instance(worker.stub, digest)
        while view.parked:
            view = await watch.read()
        assert [one.instance_id for one in view.instances] == ["m-1"]
        watch.cancel()


async def test_a_parked_model_gives_way_to_one_that_needs_the_pool(sources: list[Path], tmp_path: Path) -> None:
    async with running(storage_settings(tmp_path, pool_bytes=10 * 2**20)) as storage, worker_on(storage) as worker:
        first, second = [await import_checkpoint(storage.server.address, source) for source in sources[:2]]
        _, expected = await run(worker, first)
        await sealed(storage)
        assert parked(worker) == [first]
        await start_instance(worker.stub, second)
        await loaded_report(worker.stub)
        assert parked(worker) == [], "it was dropped before the other one was given the room"
        assert storage.tiers.pool.filled_bytes(second) > 6 * 2**20
        assert await leases(storage.server.address) == ["node-a/worker-0"]
        assert len(await greedy(worker.stub, PROMPT, 4)) == 4
        await worker.stub.StopInstance(inference_pb2.StopInstanceRequest(instance_id="m-1"))
        report, found = await run(worker, first)
        assert found == expected
        assert GPU not in tiers(report)
        storage.tiers.pool.check_integrity()


async def test_the_model_parked_longest_goes_first(storage: StorageNode, sources: list[Path]) -> None:
    digests = [await import_checkpoint(storage.server.address, source) for source in sources]
    async with worker_on(storage, ParkingLimits(models=2)) as worker:
        for digest in digests:
            await run(worker, digest)
        assert parked(worker) == digests[1:]
        await run(worker, digests[1])
        assert parked(worker) == [digests[2], digests[1]]
        assert len(await leases(storage.server.address)) == 2


async def test_no_more_bytes_are_parked_than_may_be(storage: StorageNode, sources: list[Path]) -> None:
    digests = [await import_checkpoint(storage.server.address, source) for source in sources[:2]]
    async with worker_on(storage, ParkingLimits(models=9, size_bytes=10 * 2**20)) as worker:
        for digest in digests:
            await run(worker, digest)
        assert parked(worker) == digests[1:]
    async with worker_on(storage, ParkingLimits(models=9, size_bytes=2**20)) as worker:
        await run(worker, digests[0])
        assert parked(worker) == []
        assert await leases(storage.server.address) == []


async def test_asking_for_eviction_drops_what_is_parked(storage: StorageNode, sources: list[Path]) -> None:
    digest = await import_checkpoint(storage.server.address, sources[0])
    async with worker_on(storage) as worker, open_channel(storage.server.address) as channel:
        _, expected = await run(worker, digest)
        await sealed(storage)
        evict = storage_pb2.EvictCheckpointRequest(digest=digest, keep=SSD)
        answer = await storage_pb2_grpc.StorageServiceStub(channel).EvictCheckpoint(evict)
        assert (answer.pinned_bytes, parked(worker)) == (0, [])
        report, found = await run(worker, digest)
        assert (tiers(report), found) == ([SSD], expected)


async def test_a_model_whose_load_was_cut_short_is_not_parked(tmp_path: Path, sources: list[Path]) -> None:
    async with running(storage_settings(tmp_path, remote_read_limit=2**20)) as storage, worker_on(storage) as worker:
        digest = await import_checkpoint(storage.server.address, sources[0])
        await start_instance(worker.stub, digest)
        await worker.stub.StopInstance(inference_pb2.StopInstanceRequest(instance_id="m-1"))
        assert parked(worker) == []
        assert await leases(storage.server.address) == []


async def test_a_storage_manager_that_goes_away_takes_what_is_parked_with_it(
    tmp_path: Path, sources: list[Path]
) -> None:
    async with AsyncExitStack() as resources:
        async with running(storage_settings(tmp_path)) as storage:
            digest = await import_checkpoint(storage.server.address, sources[0])
            worker = await worker_in_this_process(storage.server.address, resources, SEVERAL)
            await run(worker, digest)
            assert parked(worker) == [digest]
        await until_parked(worker, [])
        assert worker.instances.view.instances == ()


@pytest.fixture
def weights_in_an_arena(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the worker copy weights to memory of its own, as it does for an accelerator."""
    monkeypatch.setattr(worker_app, "weights_on", lambda _: partial(ArenaWeights, make_copier=CpuCopier))


@pytest.mark.usefixtures("weights_in_an_arena")
async def test_weights_on_a_device_stay_parked_when_the_pool_needs_the_room(
    sources: list[Path], tmp_path: Path
) -> None:
    async with running(storage_settings(tmp_path, pool_bytes=10 * 2**20)) as storage, worker_on(storage) as worker:
        first, second = [await import_checkpoint(storage.server.address, source) for source in sources[:2]]
        _, expected = await run(worker, first)
        await sealed(storage)
        report, _ = await run(worker, second)
        assert tiers(report) == [REMOTE]
        assert parked(worker) == [first, second]
        assert await leases(storage.server.address) == ["node-a/worker-0"], "that of the second"
        for _ in range(2):
            report, found = await run(worker, first)
            assert (tiers(report), found) == ([GPU], expected)
        assert parked(worker) == [second, first]


@pytest.mark.usefixtures("weights_in_an_arena")
async def test_weights_on_a_device_go_when_somebody_asks_for_it(storage: StorageNode, sources: list[Path]) -> None:
    digest = await import_checkpoint(storage.server.address, sources[0])
    async with worker_on(storage) as worker, open_channel(storage.server.address) as channel:
        await run(worker, digest)
        await sealed(storage)
        evict = storage_pb2.EvictCheckpointRequest(digest=digest, keep=SSD)
        answer = await storage_pb2_grpc.StorageServiceStub(channel).EvictCheckpoint(evict)
        assert answer.pinned_bytes == 0
        await until_parked(worker, [])


async def test_a_draining_worker_parks_nothing(storage: StorageNode, sources: list[Path]) -> None:
    digest = await import_checkpoint(storage.server.address, sources[0])
    async with worker_on(storage) as worker:
        await run(worker, digest)
        await start_instance(worker.stub, digest)
        await worker.instances.drain(0.0)
        assert (parked(worker), worker.instances.view.instances) == ([], ())
        assert await leases(storage.server.address) == []


async def test_a_killed_worker_gives_back_what_it_had_parked(
    storage: StorageNode,
    etcd_server: EtcdServer,
    prefix: str,
    tmp_path: Path,
    sources: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    digest = await import_checkpoint(storage.server.address, sources[0])
    address = storage.server.address
    async with (
        worker_process(etcd_server.endpoint, prefix, tmp_path / "log", storage_address=address) as process,
        open_channel(process.address) as channel,
    ):
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        await start_instance(stub, digest)
        await loaded_report(stub)
        await stub.StopInstance(inference_pb2.StopInstanceRequest(instance_id="m-1"))
        assert await leases(address) == ["node-a/worker-0"]
        assert process.mapped_bytes("memfd:") > 6 * 2**20, "parked weights stay mapped"
        released = asyncio.Event()
        monkeypatch.setattr(storage.publisher, "note", lambda *_: released.set())
        process.process.send_signal(signal.SIGKILL)
        await process.process.wait()
        async with asyncio.timeout(20):
            await released.wait()
        assert await leases(address) == []

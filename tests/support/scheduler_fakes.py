"""Workers and storage managers that do as the test says, served over real gRPC and registered in a real etcd."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from kindling.platform.errors import KindlingError
from kindling.platform.etcd import EtcdClient
from kindling.platform.etcd_records import encode_record, node_key, worker_key
from kindling.platform.registration import registered
from kindling.platform.rpc.server import RpcServer
from kindling.v1 import (
    checkpoint_pb2,
    cluster_pb2,
    inference_pb2,
    inference_pb2_grpc,
    model_pb2,
    state_pb2,
    storage_pb2,
    storage_pb2_grpc,
)


@dataclass
class FakeInstance:
    model: str
    digest: str
    state: Any = cluster_pb2.INSTANCE_STATE_STARTING
    generations: set[str] = field(default_factory=set)


class FakeWorker(inference_pb2_grpc.InferenceServiceServicer):
    """Starts, handovers and stops succeed at once unless they are held; `errors` are what the next starts fail with.

    What is started is loaded at once unless `loading` is set before; every load reads `read_bytes` from the SSD in
    `read_seconds`. Generations move to the worker at the target's address among `peers`, in rounds of `round_tokens`,
    but for those that are `staying`.
    """

    def __init__(self, worker_id: str, slots: int = 1, memory_bytes: int = 0) -> None:
        self.worker_id = worker_id
        self.node_id = worker_id.split("/", maxsplit=1)[0]
        self.slots = slots
        self.memory_bytes = memory_bytes
        self.instances: dict[str, FakeInstance] = {}
        self.errors: list[KindlingError] = []
        self.released = asyncio.Event()
        self.released.set()
        self.loading = False
        self.read_bytes, self.read_seconds = 10, 0.1
        self.start_calls: list[str] = []
        self.joined_addresses: list[str] = []  # of the last start
        self.stop_calls: list[str] = []
        self.stops_released = asyncio.Event()
        self.stops_released.set()
        self.peers: dict[str, FakeWorker] = {}
        self.migrate_calls: list[Any] = []
        self.migrate_errors: list[KindlingError] = []
        self.staying: set[str] = set()
        self.round_tokens: list[int] = []
        self.handovers_released = asyncio.Event()
        self.handovers_released.set()
        self.address = ""
        self._changed = asyncio.Event()

    def hold(self) -> None:
        """Let no start finish until `released` is set."""
        self.released.clear()

    def generations(self, instance_id: str) -> set[str]:
        """What runs in an instance; nothing if it is not there."""
        return self.instances[instance_id].generations if instance_id in self.instances else set()

    def finish_load(self, loaded: bool = True) -> None:
        """Let the load of the worker's only instance end; without ``loaded`` the instance ends with it."""
        self.loading = False
        if not loaded:
            self.instances.clear()
        self.note()

    def note(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await self._changed.wait()

    def add_instance(self, instance_id: str, model: str, digest: str, state: Any, *generations: str) -> None:
        """Run an instance that was started before the test."""
        self.instances[instance_id] = FakeInstance(model, digest, state, set(generations))
        self.note()

    def set_generations(self, *names: str) -> None:
        """Run these generations in the worker's only instance."""
        (instance,) = self.instances.values()
        instance.generations = set(names)
        self.note()

    async def StartInstance(self, request: Any, _context: Any) -> AsyncIterator[Any]:
        self.start_calls.append(request.instance_id)
        self.joined_addresses = list(request.other_addresses)
        self.note()
        if self.errors:
            raise self.errors.pop(0)
        instance = self.instances.setdefault(
            request.instance_id, FakeInstance(request.model, request.checkpoint_digest)
        )
        self.note()
        progress = checkpoint_pb2.LoadProgress(loaded_bytes=5, total_bytes=10)
        yield inference_pb2.StartInstanceResponse(progress=progress)
        await self.released.wait()
        instance.state = cluster_pb2.INSTANCE_STATE_READY
        self.note()
        yield inference_pb2.StartInstanceResponse(ready=self._report())

    async def StopInstance(self, request: Any, _context: Any) -> Any:
        self.stop_calls.append(request.instance_id)
        if (instance := self.instances.get(request.instance_id)) is not None:
            instance.state = cluster_pb2.INSTANCE_STATE_STOPPING
            self.note()
            await self.stops_released.wait()
            await self.until(lambda: not instance.generations)
            self.instances.pop(request.instance_id, None)
        self.note()
        return inference_pb2.StopInstanceResponse()

    async def MigrateInstance(self, request: Any, _context: Any) -> AsyncIterator[Any]:
        self.migrate_calls.append(request)
        self.note()
        if self.migrate_errors:
            raise self.migrate_errors.pop(0)
        source, peer = self.instances[request.instance_id], self.peers[request.target_address]
        for name in sorted(source.generations - self.staying):
            await self.handovers_released.wait()
            source.generations.discard(name)
            peer.instances[request.target_instance_id].generations.add(name)
            self.note()
            peer.note()
            moved = inference_pb2.GenerationMoved(generation_id=name, round_tokens=self.round_tokens)
            yield inference_pb2.MigrateInstanceResponse(moved=moved)
        for name in sorted(source.generations & self.staying):
            stayed = inference_pb2.GenerationStayed(generation_id=name, reason="TOO_LONG", message="it is too long")
            yield inference_pb2.MigrateInstanceResponse(stayed=stayed)

    async def WatchWorker(self, _request: Any, _context: Any) -> AsyncIterator[Any]:
        while True:
            changed = self._changed
            running = [
                inference_pb2.RunningInstance(
                    instance_id=name,
                    model=instance.model,
                    checkpoint_digest=instance.digest,
                    state=instance.state,
                    generation_ids=sorted(instance.generations),
                    report=self._report_of(instance),
                )
                for name, instance in self.instances.items()
            ]
            yield inference_pb2.WatchWorkerResponse(worker_id=self.worker_id, instances=running)
            await changed.wait()

    def _report_of(self, instance: FakeInstance) -> checkpoint_pb2.LoadReport | None:
        is_ready = instance.state == cluster_pb2.INSTANCE_STATE_READY
        return self._report() if is_ready else None

    def _report(self) -> checkpoint_pb2.LoadReport:
        if self.loading:
            return checkpoint_pb2.LoadReport(init_seconds=0.01, total_seconds=0.02)
        seconds = self.read_seconds
        read = checkpoint_pb2.TierTraffic(bytes=self.read_bytes, seconds=seconds, **{"from": checkpoint_pb2.TIER_SSD})
        return checkpoint_pb2.LoadReport(
            traffic=[read], load_seconds=seconds, init_seconds=0.01, total_seconds=seconds + 0.01, complete=True
        )


class FakeStorage(storage_pb2_grpc.StorageServiceServicer):
    """Packs any source into a checkpoint named by `digests`, or after the source."""

    dram_bytes = 1 << 40

    def __init__(self, node_id: str) -> None:
        self.node_id = node_id
        self.digests: dict[str, str] = {}
        self.imports: list[str] = []
        self.pinned_bytes: list[int] = []  # what the next evictions find pinned
        self.evicted: list[tuple[str, int]] = []
        self.prefetches: asyncio.Queue[Any] = asyncio.Queue()
        self.prefetch_outcomes: list[Any] = []  # of the next ones, or errors; done afterwards
        self.prefetches_released = asyncio.Event()
        self.prefetches_released.set()
        self.deleted: list[str] = []
        self.leader_revisions: list[tuple[str, int]] = []  # by which each request was asked
        self.introduced = asyncio.Event()
        self.deletion = asyncio.Event()

    async def ImportCheckpoint(self, request: Any, _context: Any) -> AsyncIterator[Any]:
        self.leader_revisions.append(("Import", request.leader_revision))
        self.imports.append(request.source_uri)
        progress = model_pb2.ImportProgress(done_bytes=1, total_bytes=2)
        yield storage_pb2.ImportCheckpointResponse(progress=progress)
        digest = self.digests.get(request.source_uri, f"blake3:{request.source_uri.rsplit('/', 1)[-1]}")
        yield storage_pb2.ImportCheckpointResponse(imported=checkpoint(digest))

    async def EvictCheckpoint(self, request: Any, _context: Any) -> Any:
        self.leader_revisions.append(("Evict", request.leader_revision))
        self.evicted.append((request.digest, request.keep))
        pinned = self.pinned_bytes.pop(0) if self.pinned_bytes else 0
        return storage_pb2.EvictCheckpointResponse(dropped_bytes=7, pinned_bytes=pinned)

    async def PrefetchCheckpoint(self, request: Any, _context: Any) -> Any:
        self.leader_revisions.append(("Prefetch", request.leader_revision))
        self.prefetches.put_nowait(request)
        await self.prefetches_released.wait()
        outcome = self.prefetch_outcomes.pop(0) if self.prefetch_outcomes else storage_pb2.PREFETCH_OUTCOME_DONE
        if isinstance(outcome, KindlingError):
            raise outcome
        return storage_pb2.PrefetchCheckpointResponse(outcome=outcome, prefetched_bytes=request.head_bytes)

    async def DeleteCheckpoint(self, request: Any, _context: Any) -> Any:
        self.leader_revisions.append(("Delete", request.leader_revision))
        self.deleted.append(request.digest)
        self.deletion.set()
        return storage_pb2.DeleteCheckpointResponse()

    async def ReadCheckpointFiles(self, _request: Any, _context: Any) -> AsyncIterator[Any]:
        part = model_pb2.FilePart(path="config.json", file_bytes=2, offset=0, data=b"{}")
        yield storage_pb2.ReadCheckpointFilesResponse(part=part)

    async def GetStorageStatus(self, request: Any, _context: Any) -> Any:
        self.leader_revisions.append(("Status", request.leader_revision))
        self.introduced.set()
        tier = cluster_pb2.TierStatus(tier=checkpoint_pb2.TIER_DRAM, capacity_bytes=100, used_bytes=40)
        counts = cluster_pb2.PrefetchCounts(prefetched_bytes=9, hits=3, hit_bytes=5, misses=1, wasted_bytes=4)
        copies = cluster_pb2.PrefetchCounts(prefetched_bytes=7, hits=2)
        return storage_pb2.GetStorageStatusResponse(
            node_id=self.node_id, tiers=[tier], prefetch=counts, prefetch_to_ssd=copies
        )


def checkpoint(digest: str, total_bytes: int = 1000) -> checkpoint_pb2.Checkpoint:
    return checkpoint_pb2.Checkpoint(digest=digest, total_bytes=total_bytes, chunk_bytes=100, chunk_count=10)


@asynccontextmanager
async def served_worker(
    etcd: EtcdClient, prefix: str, worker: FakeWorker, lease_seconds: float
) -> AsyncIterator[FakeWorker]:
    """Serve a worker on a port of its own and register it; leaving does both no more."""
    server = RpcServer("127.0.0.1:0", grace_seconds=0)
    server.add(inference_pb2_grpc.add_InferenceServiceServicer_to_server, worker, "kindling.v1.InferenceService")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(server)
        worker.address = server.address
        record = state_pb2.WorkerRecord(
            worker_id=worker.worker_id,
            node_id=worker.node_id,
            address=server.address,
            device="cpu",
            slots=worker.slots,
            memory_bytes=worker.memory_bytes,
        )
        key = worker_key(prefix, worker.worker_id)
        await stack.enter_async_context(registered(etcd, key, encode_record(record), lease_seconds))
        yield worker


@asynccontextmanager
async def served_storage(
    etcd: EtcdClient, prefix: str, storage: FakeStorage, lease_seconds: float
) -> AsyncIterator[FakeStorage]:
    """Serve a storage manager on a port of its own and register its node."""
    server = RpcServer("127.0.0.1:0", grace_seconds=0)
    server.add(storage_pb2_grpc.add_StorageServiceServicer_to_server, storage, "kindling.v1.StorageService")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(server)
        tiers = [cluster_pb2.TierStatus(tier=checkpoint_pb2.TIER_DRAM, capacity_bytes=storage.dram_bytes)]
        record = state_pb2.NodeRecord(node_id=storage.node_id, storage_address=server.address, tiers=tiers)
        key = node_key(prefix, storage.node_id)
        await stack.enter_async_context(registered(etcd, key, encode_record(record), lease_seconds))
        yield storage

"""A scheduler under test, in this process, with its surroundings."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

import grpc

from kindling.platform.etcd import EtcdClient
from kindling.platform.etcd_records import (
    decode_record,
    encode_record,
    instance_key,
    leader_key,
    model_key,
    residency_key,
)
from kindling.platform.process import Shutdown
from kindling.platform.rpc.channel import open_channel, remote_errors
from kindling.scheduler.app import serve
from kindling.scheduler.settings import SchedulerSettings
from kindling.v1 import (
    checkpoint_pb2,
    cluster_pb2,
    cluster_pb2_grpc,
    model_pb2,
    model_pb2_grpc,
    scheduler_pb2,
    scheduler_pb2_grpc,
    state_pb2,
)
from support.etcd_server import free_port
from support.scheduler_clock import ManualClock
from support.scheduler_fakes import FakeStorage, FakeWorker, checkpoint, served_storage, served_worker

T = TypeVar("T")


class Client:
    """What a gateway does with a scheduler, errors as ours."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.scheduler = scheduler_pb2_grpc.SchedulerServiceStub(channel)
        self.models = model_pb2_grpc.ModelServiceStub(channel)
        self.cluster = cluster_pb2_grpc.ClusterServiceStub(channel)

    def acquire(self, model: str, generation_id: str = "", *avoid: str) -> Any:
        request = scheduler_pb2.AcquireRequest(
            generation_id=generation_id or uuid.uuid4().hex, model=model, avoid_instance_ids=avoid
        )
        return self.scheduler.Acquire(request)

    async def granted(self, model: str, generation_id: str = "", *avoid: str) -> Any:
        """Acquire to the end; returns the grant."""
        with remote_errors("scheduler"):
            async with asyncio.timeout(10):
                events = [event async for event in self.acquire(model, generation_id, *avoid)]
        assert events[-1].HasField("granted")
        return events[-1].granted

    async def release(self, generation_id: str) -> None:
        await self.scheduler.Release(scheduler_pb2.ReleaseRequest(generation_id=generation_id))

    def migrating(self, model: str, to: str, source: str = "") -> Any:
        request = cluster_pb2.MigrateModelRequest(model=model, to_worker_id=to, from_worker_id=source)
        return self.cluster.MigrateModel(request)

    async def migrated(self, model: str, to: str, source: str = "") -> list[Any]:
        """Migrate to the end; returns what was told last."""
        with remote_errors("scheduler"):
            async with asyncio.timeout(10):
                told = [list(event.migrations) async for event in self.migrating(model, to, source)]
        return told[-1]

    def draining(self, node_id: str) -> Any:
        return self.cluster.DrainNode(cluster_pb2.DrainNodeRequest(node_id=node_id))

    async def drained(self, node_id: str) -> list[Any]:
        """Drain to the end; returns everything that was told."""
        with remote_errors("scheduler"):
            async with asyncio.timeout(10):
                return [event async for event in self.draining(node_id)]

    async def undrain(self, node_id: str) -> None:
        with remote_errors("scheduler"):
            await self.cluster.UndrainNode(cluster_pb2.UndrainNodeRequest(node_id=node_id))

    async def delete(self, name: str, request_id: str = "") -> None:
        with remote_errors("scheduler"):
            await self.models.DeleteModel(model_pb2.DeleteModelRequest(name=name, request_id=request_id))

    async def evict(self, name: str, keep: checkpoint_pb2.Tier.ValueType) -> model_pb2.EvictModelResponse:
        with remote_errors("scheduler"):
            return await self.models.EvictModel(model_pb2.EvictModelRequest(name=name, keep=keep))

    async def status(self, **what: bool) -> Any:
        with remote_errors("scheduler"):
            return await self.cluster.GetClusterStatus(cluster_pb2.GetClusterStatusRequest(**what))

    async def until_status(self, holds: Callable[[Any], bool]) -> Any:
        """Ask for the cluster's status until it is as wanted; returns it."""
        async with asyncio.timeout(10):
            while not holds(status := await self.status()):
                pass
            return status

    async def deploy(self, name: str, source: str = "file:///models/m", **settings: Any) -> Any:
        request = model_pb2.DeployModelRequest(
            request_id=uuid.uuid4().hex,
            name=name,
            source_uri=source,
            settings=model_pb2.ModelSettings(**settings),
        )
        with remote_errors("scheduler"):
            events = [event async for event in self.models.DeployModel(request)]
        assert events[-1].HasField("deployed")
        return events[-1].deployed


class Cluster:
    """One etcd prefix with fake nodes and workers, and schedulers to be tested."""

    def __init__(self, etcd: EtcdClient, endpoint: str, stack: AsyncExitStack, lease_seconds: float) -> None:
        self.etcd = etcd
        self.lease_seconds = lease_seconds
        self.endpoint = endpoint
        self.prefix = f"/test/{uuid.uuid4().hex}/"
        self.clock = ManualClock()
        self._stack = stack
        self._running: dict[str, AsyncExitStack] = {}
        self._workers: dict[str, FakeWorker] = {}  # by address, for all of them

    async def remove(self, worker: FakeWorker) -> None:
        """End a worker's process, so to speak: its port, its connections and its registration go at once."""
        await self._running.pop(worker.worker_id).aclose()

    async def stop_scheduler(self, scheduler_id: str) -> None:
        """End a scheduler in good order."""
        await self._running.pop(scheduler_id).aclose()

    async def _run(self, name: str, context: AbstractAsyncContextManager[T]) -> T:
        stack = self._running[name] = await self._stack.enter_async_context(AsyncExitStack())
        return await stack.enter_async_context(context)

    def environment(self, scheduler_id: str = "s1", **settings: Any) -> dict[str, str]:
        values = {"etcd_endpoints": self.endpoint, "etcd_prefix": self.prefix, "scheduler_id": scheduler_id} | settings
        return {f"KINDLING_SCHEDULER_{name.upper()}": str(value) for name, value in values.items()}

    async def add_worker(self, worker_id: str, slots: int = 1, memory_bytes: int = 0) -> FakeWorker:
        fake = FakeWorker(worker_id, slots, memory_bytes)
        worker = await self._run(worker_id, served_worker(self.etcd, self.prefix, fake, self.lease_seconds))
        self._workers[worker.address] = worker
        worker.peers = self._workers
        return worker

    async def add_node(self, node_id: str) -> FakeStorage:
        fake = FakeStorage(node_id)
        serving = served_storage(self.etcd, self.prefix, fake, self.lease_seconds)
        return await self._stack.enter_async_context(serving)

    async def add_model(self, name: str, digest: str = "blake3:m", total_bytes: int = 1000, **settings: Any) -> None:
        """Write a model as an earlier leader would have; for before the scheduler starts."""
        packed = checkpoint(digest, total_bytes)
        model = model_pb2.Model(name=name, checkpoint=packed, settings=model_pb2.ModelSettings(**settings))
        await self.etcd.put(model_key(self.prefix, name), encode_record(state_pb2.ModelRecord(model=model)))

    async def add_residency(self, node_id: str, digest: str, **tiers: int) -> None:
        """Write how many bytes of a checkpoint a node's tiers hold, as its storage manager does."""
        record = state_pb2.ResidencyRecord(node_id=node_id, digest=digest)
        for name, size_bytes in tiers.items():
            record.tiers.add(tier=checkpoint_pb2.Tier.Value(f"TIER_{name.upper()}"), chunks=1, bytes=size_bytes)
        await self.etcd.put(residency_key(self.prefix, node_id, digest), encode_record(record))

    async def add_instance(self, instance_id: str, worker_id: str, state: Any, digest: str = "blake3:m") -> None:
        """Write an instance as an earlier leader would have."""
        record = state_pb2.InstanceRecord(
            instance_id=instance_id, model="m", checkpoint_digest=digest, worker_id=worker_id, state=state
        )
        await self.etcd.put(instance_key(self.prefix, instance_id), encode_record(record))

    async def start_scheduler(self, scheduler_id: str = "s1", **settings: Any) -> Client:
        """Run a scheduler until the test ends; returns once it leads."""
        await self._serve(scheduler_id, settings)
        return await self.client_of(await self.leader())

    async def start_standby(self, scheduler_id: str) -> Client:
        """Run a scheduler that finds another one leading."""
        port = free_port()
        await self._serve(scheduler_id, {"listen_address": f"127.0.0.1:{port}"})
        client = await self.client_of(f"127.0.0.1:{port}")
        await client.channel.channel_ready()
        return client

    async def _serve(self, scheduler_id: str, settings: dict[str, Any]) -> None:
        values = {"etcd_endpoints": self.endpoint, "etcd_prefix": self.prefix, "scheduler_id": scheduler_id}
        configured = SchedulerSettings(
            **(values | {"lease_ttl_seconds": self.lease_seconds, "grace_seconds": 0.0} | settings)
        )
        await self._run(scheduler_id, _serving(configured, self.clock))

    async def client_of(self, address: str) -> Client:
        return Client(await self._stack.enter_async_context(open_channel(address, retry=False)))

    async def leader(self, unlike: str = "") -> str:
        """The leader's address, once there is a leader at another address than `unlike`."""
        async with asyncio.timeout(20):
            async for update in self.etcd.watch_key(leader_key(self.prefix)):
                items = update.items if hasattr(update, "items") else [event.item for event in update.events]
                for item in items:
                    record = decode_record(state_pb2.LeaderRecord, item.value or b"{}")
                    if record.address and record.address != unlike:
                        return record.address
        raise AssertionError("unreachable")

    async def keys(self, kind: str) -> list[str]:
        """The names of the records of a kind."""
        snapshot = await self.etcd.get_prefix(f"{self.prefix}{kind}/")
        return [item.key.rsplit("/", 1)[-1] for item in snapshot.items]

    async def until_keys(self, kind: str, holds: Callable[[set[str]], bool]) -> set[str]:
        """The names of a kind's records once they are as wanted."""
        names: set[str] = set()
        async with asyncio.timeout(10):
            async for update in self.etcd.watch(f"{self.prefix}{kind}/"):
                if hasattr(update, "items"):
                    names = {item.key.rsplit("/", 1)[-1] for item in update.items}
                else:
                    for event in update.events:
                        name = event.item.key.rsplit("/", 1)[-1]
                        names.add(name) if event.kind.name == "PUT" else names.discard(name)
                if holds(names):
                    return names
        raise AssertionError("unreachable")


@asynccontextmanager
async def _serving(settings: SchedulerSettings, clock: ManualClock) -> AsyncIterator[None]:
    shutdown = Shutdown()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(serve(settings, shutdown, clock))
        try:
            yield
        finally:
            shutdown.requested.set()


@asynccontextmanager
async def cluster_under_test(endpoint: str, lease_seconds: float = 2.0) -> AsyncIterator[Cluster]:
    """Schedulers, nodes and workers that die are missed after ``lease_seconds``."""
    async with AsyncExitStack() as stack:
        etcd = await stack.enter_async_context(EtcdClient([endpoint]))
        yield Cluster(etcd, endpoint, stack, lease_seconds)

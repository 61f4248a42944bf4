"""Puts the worker together: the one place that knows every adapter."""

import asyncio
import gc
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack

from kindling.platform.clock import SystemClock
from kindling.platform.etcd import reachable_etcd
from kindling.platform.logging import get_logger
from kindling.platform.process import Shutdown, exempt_from_collection
from kindling.platform.rpc.channel import open_channel
from kindling.platform.rpc.server import RpcServer
from kindling.v1 import inference_pb2_grpc, state_pb2
from kindling.worker.adapters.devices import default_parked_bytes, memory_bytes
from kindling.worker.adapters.engine_factory import FakeEngineFactory, FakeEngineOptions
from kindling.worker.adapters.no_storage import NoStorage
from kindling.worker.adapters.peer_worker import PeerWorkers
from kindling.worker.adapters.placement import weights_on
from kindling.worker.adapters.registry import in_registry
from kindling.worker.adapters.storage_client import StorageClient
from kindling.worker.adapters.transformers_factory import TransformersEngineFactory
from kindling.worker.checkpoint_ports import CheckpointStore, EngineFactory
from kindling.worker.instances import Instances
from kindling.worker.migration_ports import Workers
from kindling.worker.migrations import Migrations
from kindling.worker.parking import ParkingLimits
from kindling.worker.servicer import InferenceServicer
from kindling.worker.settings import EngineKind, WorkerSettings

log = get_logger(__name__)
SERVICE_NAME = "kindling.v1.InferenceService"


async def serve(settings: WorkerSettings, shutdown: Shutdown) -> None:
    """Run the worker until shutdown is asked for, then leave: registry first, then generations, then the port."""
    engines = engine_factory(settings)
    async with AsyncExitStack() as resources:
        etcd = await resources.enter_async_context(reachable_etcd(settings))
        checkpoints = await open_store(settings, resources)
        instances = await resources.enter_async_context(
            Instances(
                slots=settings.slots,
                checkpoints=checkpoints,
                engines=engines,
                clock=SystemClock(),
                parking=parking_limits(settings),
                orphan_seconds=settings.orphan_seconds,
            )
        )
        workers = await resources.enter_async_context(PeerWorkers())
        server = build_server(settings, instances, workers)
        await resources.enter_async_context(server)
        record = _record(settings, server, await _warm_up(engines))
        gc.collect()  # the model that was built to warm up
        exempt_from_collection()
        async with in_registry(etcd, settings.etcd_prefix, record, settings.lease_ttl_seconds):
            log.info("worker_started", worker_id=settings.worker_id, address=server.address)
            await shutdown.requested.wait()
            await server.drain()
        await instances.drain(settings.grace_seconds)


def build_server(settings: WorkerSettings, instances: Instances, workers: Workers) -> RpcServer:
    """Return the server with everything that the worker offers."""
    server = RpcServer(
        settings.listen_address, advertise_host=settings.advertise_host, grace_seconds=settings.grace_seconds
    )
    migrations = Migrations(instances, workers, SystemClock())
    servicer = InferenceServicer(settings.worker_id, instances, migrations)
    server.add(inference_pb2_grpc.add_InferenceServiceServicer_to_server, servicer, SERVICE_NAME)
    return server


def engine_factory(settings: WorkerSettings) -> EngineFactory:
    """Return the factory of the engine that the settings name."""
    if settings.engine is EngineKind.FAKE:
        return FakeEngineFactory(
            FakeEngineOptions(
                vocab_size=settings.fake_vocab_size,
                context_length=settings.fake_context_length,
                max_running=settings.fake_max_running,
                step_seconds=settings.fake_step_seconds,
            )
        )
    return TransformersEngineFactory(
        settings.device, settings.thread_count, settings.kv_cache_bytes, settings.slots, settings.exact
    )


def parking_limits(settings: WorkerSettings) -> ParkingLimits:
    """Return how much may be parked; without a storage manager there is nothing to keep."""
    if not settings.storage_address:
        return ParkingLimits()
    size_bytes = default_parked_bytes(settings.device) if settings.parked_bytes is None else settings.parked_bytes
    return ParkingLimits(settings.parked_models, size_bytes)


async def open_store(settings: WorkerSettings, resources: AsyncExitStack) -> CheckpointStore:
    """Return where checkpoints come from; closed with ``resources``."""
    if not settings.storage_address:
        return NoStorage()
    channel = await resources.enter_async_context(open_channel(settings.storage_address))
    client = StorageClient(
        channel, holder=settings.worker_id, clock=SystemClock(), make_weights=weights_on(settings.device)
    )
    return await resources.enter_async_context(client)


async def _warm_up(engines: EngineFactory) -> float:
    """On a thread, so that the process answers health checks and signals meanwhile."""
    with ThreadPoolExecutor(1, "warm-up") as executor:
        return await asyncio.get_running_loop().run_in_executor(executor, engines.warm_up)


def _record(settings: WorkerSettings, server: RpcServer, init_seconds: float) -> state_pb2.WorkerRecord:
    return state_pb2.WorkerRecord(
        worker_id=settings.worker_id,
        node_id=settings.node_id,
        address=server.address,
        device=settings.device,
        slots=settings.slots,
        init_seconds=init_seconds,
        memory_bytes=memory_bytes(settings.device) if settings.memory_bytes is None else settings.memory_bytes,
    )

"""Puts the storage manager together and runs it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass

from kindling.platform.clock import Clock, SystemClock
from kindling.platform.etcd import reachable_etcd
from kindling.platform.logging import get_logger
from kindling.platform.process import Shutdown
from kindling.platform.registration import registered
from kindling.platform.rpc.server import RpcServer
from kindling.storage.adapters.bucket import Bucket, BucketAccess
from kindling.storage.adapters.cache_format import require_format
from kindling.storage.adapters.direct_gets import DirectGets
from kindling.storage.adapters.etcd_registry import EtcdRegistry
from kindling.storage.adapters.free_memory import free_memory, machine_memory, require_pool_memory
from kindling.storage.adapters.hand_over_server import HandOverServer
from kindling.storage.adapters.huge_pages import HugePages
from kindling.storage.adapters.io_executor import IoExecutor
from kindling.storage.adapters.link_probe import MachineProbe
from kindling.storage.adapters.memfd_pool import MemfdPool
from kindling.storage.adapters.model_sources import ModelSources
from kindling.storage.adapters.object_source import ObjectReader
from kindling.storage.adapters.process_limits import raise_open_file_limit, sole_use
from kindling.storage.adapters.remote_directory import RemoteDirectory
from kindling.storage.adapters.remote_objects import RemoteObjects
from kindling.storage.adapters.ssd_directory import SsdDirectory
from kindling.storage.catalog import Catalog
from kindling.storage.domain.chunk_pool import ChunkPool
from kindling.storage.domain.rate_limit import RateLimit
from kindling.storage.domain.ssd_ledger import SsdLedger
from kindling.storage.domain.tier import Tier
from kindling.storage.evict_checkpoint import EvictCheckpoint
from kindling.storage.hand_over import HandOver
from kindling.storage.import_checkpoint import ImportCheckpoint
from kindling.storage.look_after import LookAfter
from kindling.storage.measure_links import MeasureLinks
from kindling.storage.open_checkpoint import OpenCheckpoint
from kindling.storage.ports import LinkProbe, RemoteStore, SourceStore
from kindling.storage.prefetch_checkpoint import PrefetchCheckpoint
from kindling.storage.prefetch_copy import PrefetchCopy
from kindling.storage.prefetch_metrics import watch_prefetches
from kindling.storage.publisher import Publisher
from kindling.storage.read_files import ReadFiles
from kindling.storage.servicer import StorageServicer, UseCases
from kindling.storage.settings import StorageSettings
from kindling.storage.status import GetStatus
from kindling.storage.tier_metrics import watch_tiers
from kindling.storage.tiers import Tiers
from kindling.storage.verify_checkpoint import VerifyCheckpoint
from kindling.v1 import storage_pb2_grpc

log = get_logger(__name__)
SERVICE_NAME = "kindling.v1.StorageService"
_HAND_OVER_THREADS = 4
_FETCH_THREADS = 4
# XXH3 sums many times faster than a disk reads: one thread keeps up.
_CHECKSUM_THREADS = 1


@dataclass(frozen=True, slots=True)
class StorageNode:
    """A running storage manager."""

    tiers: Tiers
    use_cases: UseCases
    publisher: Publisher
    look_after: LookAfter
    registry: EtcdRegistry
    server: RpcServer

    def drain(self) -> None:
        """End every lease and stop every import."""
        self.use_cases.opens.drain("the storage manager is shutting down")
        self.use_cases.imports.stop()


async def serve(settings: StorageSettings, shutdown: Shutdown) -> None:
    """Run the storage manager until shutdown is asked for: then the registry is left first, then leases end."""
    raise_open_file_limit()
    async with reachable_etcd(settings) as etcd, running(settings) as node:
        key, value = node.registry.node_record(node.server.address)
        async with registered(etcd, key, value, settings.lease_ttl_seconds) as registration:
            node.registry.attach(registration)
            node.publisher.note(*node.tiers.ledger.digests())
            log.info("storage_started", node_id=settings.node_id, address=node.server.address)
            await shutdown.requested.wait()
            await node.server.drain()


@asynccontextmanager
async def running(settings: StorageSettings, clock: Clock | None = None) -> AsyncIterator[StorageNode]:
    """A storage manager that serves inside the context but is not in the registry."""
    with ExitStack() as resources:
        tiers = build_tiers(settings, resources)
        sources = _model_sources(settings, resources)
        await sources.recover()
        found = await tiers.recover()
        log.info("ssd_scanned", checkpoints=len(found))
        probe = _link_probe(settings, resources)
        hand_over_io = resources.enter_context(IoExecutor(_HAND_OVER_THREADS, "hand-over"))
        async with asyncio.TaskGroup() as tasks:
            node = _build_node(settings, tiers, sources, probe, clock or SystemClock(), tasks)
            redeem = HandOver(tiers, node.use_cases.opens).redeem
            listening = asyncio.Event()
            hand_over = HandOverServer(settings.handover_socket, redeem, hand_over_io).run(listening)
            background = [
                tasks.create_task(work) for work in (node.publisher.run(), hand_over, node.look_after.run(found))
            ]
            try:
                await listening.wait()
                await node.look_after.measure()
                async with node.server:
                    try:
                        yield node
                    finally:
                        node.drain()
            finally:
                for task in background:
                    task.cancel()


def build_tiers(settings: StorageSettings, resources: ExitStack) -> Tiers:
    """The tiers on this machine's memory and disks; what they hold is given back with ``resources``."""
    resources.enter_context(sole_use(settings.cache_dir))
    require_format(settings.cache_dir)
    io = resources.enter_context(IoExecutor(settings.read_threads, "chunk-io"))
    sums = resources.enter_context(IoExecutor(_CHECKSUM_THREADS, "checksum"))
    packer = resources.enter_context(IoExecutor(1, "packer"))
    memory = _pool_memory(settings, resources)
    remote = _remote_store(settings, resources, io, sums, packer)
    return Tiers(
        pool=ChunkPool(memory.buffer_count, memory.buffer_bytes, settings.head_fraction),
        memory=memory,
        ledger=SsdLedger(settings.cache_bytes),
        ssd=SsdDirectory(settings.cache_dir, io, sums),
        remote=remote,
        catalog=Catalog(remote),
        limits={Tier.SSD: RateLimit(settings.ssd_read_limit), Tier.REMOTE: RateLimit(settings.remote_read_limit)},
    )


def _remote_store(
    settings: StorageSettings, resources: ExitStack, io: IoExecutor, sums: IoExecutor, packer: IoExecutor
) -> RemoteStore:
    if settings.remote_directory is not None:
        return RemoteDirectory(settings.remote_directory, io, sums, packer)
    bucket = Bucket(settings.remote_uri, _access(settings))
    # The SSD copy is written meanwhile: what waits for the network must not have the threads that this needs.
    remote_io = resources.enter_context(IoExecutor(settings.remote_connections, "object-io"))
    gets = DirectGets(bucket.signed_url, settings.remote_timeout_seconds, remote_io, SystemClock())
    reader = ObjectReader(bucket, resources.enter_context(gets), sums, settings.remote_range_bytes)
    return RemoteObjects(reader, settings.cache_dir, packer)


def _model_sources(settings: StorageSettings, resources: ExitStack) -> ModelSources:
    io = resources.enter_context(IoExecutor(_FETCH_THREADS, "fetch-io"))
    return ModelSources(settings.cache_dir / "sources", _access(settings), io)


def _access(settings: StorageSettings) -> BucketAccess:
    return BucketAccess(settings.remote_anonymous, settings.remote_timeout_seconds, settings.remote_retries)


def _pool_memory(settings: StorageSettings, resources: ExitStack) -> MemfdPool:
    huge_pages = _huge_pages(settings)
    resources.callback(huge_pages.give_back)
    count = settings.pool_bytes // settings.chunk_bytes
    usable = huge_pages if settings.uses_huge_pages else None
    if settings.touch_pool:
        require_pool_memory(settings.pool_bytes, usable.free_bytes() if usable else 0, free_memory())
    return resources.enter_context(MemfdPool(count, settings.chunk_bytes, usable, touch=settings.touch_pool))


def _huge_pages(settings: StorageSettings) -> HugePages:
    pages = HugePages(state_file=settings.cache_dir / "huge_pages.json")
    pages.adopt()
    if settings.uses_huge_pages and settings.reserve_huge_pages:
        # The kernel would set apart all that it has, and then find that it is too little.
        require_pool_memory(settings.pool_bytes, pages.free_bytes(), machine_memory())
        pages.reserve(settings.pool_bytes)
    else:
        pages.give_back()  # ours were adopted from a predecessor with other settings
    return pages


def _link_probe(settings: StorageSettings, resources: ExitStack) -> LinkProbe | None:
    if not settings.measure_at_start:
        return None
    return MachineProbe(settings.cache_dir, resources.enter_context(IoExecutor(settings.read_threads, "link-probe")))


def _build_node(
    settings: StorageSettings,
    tiers: Tiers,
    sources: SourceStore,
    probe: LinkProbe | None,
    clock: Clock,
    tasks: asyncio.TaskGroup,
) -> StorageNode:
    registry = EtcdRegistry(settings.etcd_prefix, settings.node_id, tiers)
    publisher = Publisher(tiers, registry, clock, settings.publish_interval_seconds)
    # Reads that were begun together end together; while their checksums are taken in turn, others must be under way.
    lanes = 2 * settings.read_threads
    opens = OpenCheckpoint(tiers, publisher, clock, tasks, lanes=lanes)
    use_cases = UseCases(
        imports=ImportCheckpoint(tiers, sources, tasks, settings.chunk_bytes),
        opens=opens,
        evicts=EvictCheckpoint(tiers, opens, publisher),
        reads=ReadFiles(tiers),
        status=GetStatus(settings.node_id, tiers, opens),
        verifies=VerifyCheckpoint(tiers, opens, publisher),
        prefetches=PrefetchCheckpoint(tiers, opens, publisher, clock),
        copies=PrefetchCopy(tiers, opens, publisher, clock),
    )
    watch_prefetches({Tier.DRAM: tiers.pool.tally, Tier.SSD: tiers.ledger.tally})
    watch_tiers(tiers.snapshots)
    measures = MeasureLinks(tiers, opens, publisher, probe, clock, settings.read_threads) if probe else None
    look_after = LookAfter(tiers, publisher, use_cases.verifies, measures, verify_found=settings.verify_at_start)
    return StorageNode(tiers, use_cases, publisher, look_after, registry, _build_server(settings, use_cases))


def _build_server(settings: StorageSettings, use_cases: UseCases) -> RpcServer:
    server = RpcServer(
        settings.listen_address,
        advertise_host=settings.advertise_host,
        grace_seconds=settings.grace_seconds,
        untraced=("OpenCheckpoint",),  # which lasts as long as a lease, far longer than the request that needed it
    )
    servicer = StorageServicer(use_cases, settings.handover_socket)
    server.add(storage_pb2_grpc.add_StorageServiceServicer_to_server, servicer, SERVICE_NAME)
    return server

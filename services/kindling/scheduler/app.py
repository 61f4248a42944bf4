"""Puts the scheduler together."""

import asyncio
import secrets
from contextlib import AsyncExitStack

from kindling.platform.clock import Clock, SystemClock
from kindling.platform.etcd import reachable_etcd
from kindling.platform.logging import get_logger
from kindling.platform.process import Shutdown
from kindling.platform.rpc.channel import ChannelPool
from kindling.platform.rpc.server import RpcServer
from kindling.scheduler.adapters.leadership import EtcdElection
from kindling.scheduler.adapters.storage_clients import GrpcStorages
from kindling.scheduler.adapters.worker_clients import GrpcWorkers
from kindling.scheduler.cluster_servicer import ClusterServicer
from kindling.scheduler.domain.arrivals import Arrivals
from kindling.scheduler.domain.planner import Planner
from kindling.scheduler.domain.prefetch import Prefetcher
from kindling.scheduler.model_servicer import ModelServicer
from kindling.scheduler.ports import Office
from kindling.scheduler.prefetching import Prefetching
from kindling.scheduler.seat import Seat
from kindling.scheduler.servicer import SchedulerServicer
from kindling.scheduler.settings import SchedulerSettings
from kindling.scheduler.storage_ports import Storages
from kindling.scheduler.tenant_metrics import watch_tenants
from kindling.scheduler.tenant_servicer import TenantServicer
from kindling.scheduler.term import Term
from kindling.v1 import cluster_pb2_grpc, model_pb2_grpc, scheduler_pb2_grpc, tenant_pb2_grpc

log = get_logger(__name__)
_SUFFIX_BYTES = 3


async def serve(settings: SchedulerSettings, shutdown: Shutdown, clock: Clock | None = None) -> None:
    """Serve until shutdown is requested: as the leader, or as a standby that points at it."""
    clock = clock or SystemClock()
    async with AsyncExitStack() as stack:
        etcd = await stack.enter_async_context(reachable_etcd(settings))
        # Not retried by the channel: a worker that is away is noticed at once, and asked again by whoever needs it.
        workers = await stack.enter_async_context(ChannelPool(retry=False))
        storages = await stack.enter_async_context(ChannelPool())
        server = _server(settings)
        seat = Seat(lambda office: _term(settings, office, workers, storages, clock), clock)
        _add_servicers(server, seat, settings, workers)
        watch_tenants(lambda: seat.present_term)
        async with server, asyncio.TaskGroup() as tasks:
            election = EtcdElection(
                etcd, settings.etcd_prefix, settings.lease_ttl_seconds, settings.scheduler_id, server.address, clock
            )
            campaigning = tasks.create_task(seat.run(election))
            log.info("scheduler_started", address=server.address, scheduler_id=settings.scheduler_id)
            await shutdown.requested.wait()
            await server.drain()
            campaigning.cancel()


def _server(settings: SchedulerSettings) -> RpcServer:
    return RpcServer(
        settings.listen_address, advertise_host=settings.advertise_host, grace_seconds=settings.grace_seconds
    )


def _term(
    settings: SchedulerSettings, office: Office, workers: ChannelPool, storages: ChannelPool, clock: Clock
) -> Term:
    planner = Planner(settings.policy, settings.limits, lambda: secrets.token_hex(_SUFFIX_BYTES))
    reached, nodes = GrpcWorkers(workers, office.revision), GrpcStorages(storages, office.revision)
    prefetching = _prefetching(settings, planner, nodes, clock) if settings.prefetch else None
    return Term(office.store, reached, nodes, planner, clock, settings.start_stall_seconds, prefetching)


def _prefetching(settings: SchedulerSettings, planner: Planner, storages: Storages, clock: Clock) -> Prefetching:
    now = clock.now()
    arrivals = Arrivals(now, wall_offset_seconds=clock.wall() - now)
    prefetcher = Prefetcher(arrivals, settings.assumptions, settings.prefetch_limits)
    return Prefetching(prefetcher, planner.view, storages, clock)


def _add_servicers(server: RpcServer, seat: Seat, settings: SchedulerSettings, channels: ChannelPool) -> None:
    server.add(
        scheduler_pb2_grpc.add_SchedulerServiceServicer_to_server,
        SchedulerServicer(seat),
        "kindling.v1.SchedulerService",
    )
    server.add(
        model_pb2_grpc.add_ModelServiceServicer_to_server,
        ModelServicer(seat, settings.model_defaults),
        "kindling.v1.ModelService",
    )
    server.add(
        cluster_pb2_grpc.add_ClusterServiceServicer_to_server,
        ClusterServicer(seat, settings.status_timeout_seconds, channels),
        "kindling.v1.ClusterService",
    )
    server.add(tenant_pb2_grpc.add_TenantServiceServicer_to_server, TenantServicer(seat), "kindling.v1.TenantService")

"""ClusterService: the wire's face of the cluster's status, and of moving what runs."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc

from kindling.platform.rpc.channel import ChannelPool
from kindling.platform.rpc.spans import gather_spans, in_order, kept_spans, trace_unknown
from kindling.platform.telemetry import process_spans
from kindling.scheduler.drain_node import drain_node, undrain_node
from kindling.scheduler.estimates import learned_estimates
from kindling.scheduler.estimates_wire import estimates_to_wire
from kindling.scheduler.migrate_model import Destination, migrate_model
from kindling.scheduler.migrations import MigrationStatus
from kindling.scheduler.seat import Seat
from kindling.scheduler.status import ClusterStatus, InstanceStatus, NodeStatus, WorkerStatus, cluster_status
from kindling.scheduler.storage_ports import PrefetchCounts, TierContents
from kindling.scheduler.wire import STAGE_TO_WIRE, STATE_TO_WIRE, model_to_wire, tier_to_wire, timestamp
from kindling.v1 import cluster_pb2, cluster_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class ClusterServicer(cluster_pb2_grpc.ClusterServiceServicer):
    """Tells what the cluster does, and moves what runs, while this scheduler leads."""

    def __init__(self, seat: Seat, timeout_seconds: float, channels: ChannelPool) -> None:
        self._seat = seat
        self._timeout_seconds = timeout_seconds
        self._channels = channels

    async def GetClusterStatus(
        self, request: cluster_pb2.GetClusterStatusRequest, _context: Context
    ) -> cluster_pb2.GetClusterStatusResponse:
        """Return the cluster as the leader sees it, and what it has learned if that is asked for."""
        term = await self._seat.term()
        response = _status(await cluster_status(term, self._timeout_seconds))
        if (leader := self._seat.leader) is not None:
            response.leader_id, response.leader_address = leader.scheduler_id, leader.address
            response.leader_since.CopyFrom(timestamp(leader.since))
        if request.include_estimates:
            response.estimates.CopyFrom(estimates_to_wire(learned_estimates(term)))
        return response

    async def MigrateModel(
        self, request: cluster_pb2.MigrateModelRequest, _context: Context
    ) -> AsyncIterator[cluster_pb2.MigrateModelResponse]:
        """Move a model, and stream how that goes."""
        term = await self._seat.term()
        where = Destination(request.to_worker_id, request.from_worker_id)
        async with aclosing(migrate_model(term, request.model, where)) as statuses:
            async for status in statuses:
                yield cluster_pb2.MigrateModelResponse(migrations=[_migration(one) for one in status])

    async def DrainNode(
        self, request: cluster_pb2.DrainNodeRequest, _context: Context
    ) -> AsyncIterator[cluster_pb2.DrainNodeResponse]:
        """Drain a node, and stream what is left there."""
        term = await self._seat.term()
        async with aclosing(drain_node(term, request.node_id)) as statuses:
            async for left in statuses:
                yield cluster_pb2.DrainNodeResponse(
                    instances=left.instances, generations=left.generations, obstacle=left.obstacle
                )

    async def UndrainNode(
        self, request: cluster_pb2.UndrainNodeRequest, _context: Context
    ) -> cluster_pb2.UndrainNodeResponse:
        """Let a node serve again."""
        await undrain_node(await self._seat.term(), request.node_id)
        return cluster_pb2.UndrainNodeResponse()

    async def GetTrace(self, request: cluster_pb2.GetTraceRequest, _context: Context) -> cluster_pb2.GetTraceResponse:
        """Return what this process, the storage managers and the workers keep of a request."""
        view, kept = (await self._seat.term()).view, kept_spans(process_spans(), request.request_id)
        peers = {f"storage of {node.node_id}": node.storage_address for node in view.nodes.values()}
        peers |= {f"worker {worker.worker_id}": worker.address for worker in view.workers.values()}
        trace_id = kept.trace_id or request.request_id
        spans, unreachable = await gather_spans(self._channels, peers, trace_id)
        if not (found := in_order([*kept.spans, *spans])):
            raise trace_unknown(request.request_id)
        return cluster_pb2.GetTraceResponse(trace_id=trace_id, spans=found, unreachable=unreachable)


def _status(status: ClusterStatus) -> cluster_pb2.GetClusterStatusResponse:
    return cluster_pb2.GetClusterStatusResponse(
        nodes=[_node(node) for node in status.nodes],
        instances=[_instance(instance) for instance in status.instances],
        models=[model_to_wire(model) for model in status.models],
    )


def _node(status: NodeStatus) -> cluster_pb2.NodeStatus:
    return cluster_pb2.NodeStatus(
        node_id=status.node.node_id,
        storage_address=status.node.storage_address,
        tiers=[_tier(tier) for tier in status.tiers],
        workers=[_worker(worker) for worker in status.workers],
        drained=status.drained,
        prefetch=_prefetch(status.prefetch) if status.prefetch else None,
        prefetch_to_ssd=_prefetch(status.prefetch_to_ssd) if status.prefetch_to_ssd else None,
    )


def _prefetch(counts: PrefetchCounts) -> cluster_pb2.PrefetchCounts:
    return cluster_pb2.PrefetchCounts(
        prefetched_bytes=counts.prefetched_bytes,
        hits=counts.hits,
        hit_bytes=counts.hit_bytes,
        misses=counts.misses,
        wasted_bytes=counts.wasted_bytes,
    )


def _migration(status: MigrationStatus) -> cluster_pb2.MigrationStatus:
    return cluster_pb2.MigrationStatus(
        instance_id=status.source_id,
        target_instance_id=status.target_id,
        target_worker_id=status.target_worker_id,
        stage=STAGE_TO_WIRE[status.stage],
        moved=status.moved,
        stayed=status.stayed,
        estimated_seconds=status.estimated_seconds,
    )


def _tier(tier: TierContents) -> cluster_pb2.TierStatus:
    return cluster_pb2.TierStatus(
        tier=tier_to_wire(tier.use.tier),
        capacity_bytes=tier.use.capacity_bytes,
        used_bytes=tier.use.used_bytes,
        pinned_bytes=tier.use.pinned_bytes,
        bandwidth_bytes_per_second=tier.use.bandwidth_bytes_per_second,
        backing=tier.use.backing,
        checkpoints=[
            cluster_pb2.ResidentCheckpoint(digest=digest, chunks=chunks, bytes=count)
            for digest, chunks, count in tier.checkpoints
        ],
    )


def _worker(status: WorkerStatus) -> cluster_pb2.WorkerSummary:
    worker = status.worker
    return cluster_pb2.WorkerSummary(
        worker_id=worker.worker_id,
        address=worker.address,
        device=worker.device,
        slots=worker.slots,
        parked=[cluster_pb2.ParkedCheckpoint(digest=one.digest, bytes=one.size_bytes) for one in status.parked],
    )


def _instance(status: InstanceStatus) -> cluster_pb2.InstanceStatus:
    instance = status.instance
    return cluster_pb2.InstanceStatus(
        instance_id=instance.instance_id,
        model=instance.model,
        worker_id=instance.worker_id,
        other_worker_ids=instance.others,
        state=STATE_TO_WIRE[instance.state],
        generations=status.generations,
        estimated_seconds=instance.estimated_seconds,
        startup_seconds=instance.startup_seconds or 0.0,
        idle_seconds=status.idle_seconds,
        **{"from": tier_to_wire(instance.slowest_tier)},
    )

"""ClusterService: the wire's face of the cluster's status."""

from typing import Any

import grpc

from kindling.scheduler.ports import Storages, TierContents
from kindling.scheduler.seat import Seat
from kindling.scheduler.status import ClusterStatus, InstanceStatus, NodeStatus, WorkerStatus, cluster_status
from kindling.scheduler.wire import STATE_TO_WIRE, model_to_wire, tier_to_wire, timestamp
from kindling.v1 import cluster_pb2, cluster_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class ClusterServicer(cluster_pb2_grpc.ClusterServiceServicer):
    """Tells what the cluster does while this scheduler leads."""

    def __init__(self, seat: Seat, storages: Storages, timeout_seconds: float) -> None:
        self._seat = seat
        self._storages = storages
        self._timeout_seconds = timeout_seconds

    async def GetClusterStatus(
        self, _request: cluster_pb2.GetClusterStatusRequest, _context: Context
    ) -> cluster_pb2.GetClusterStatusResponse:
        """Return the cluster as the leader sees it."""
        term = await self._seat.term()
        response = _status(await cluster_status(term, self._storages, self._timeout_seconds))
        if (leader := self._seat.leader) is not None:
            response.leader_id, response.leader_address = leader.scheduler_id, leader.address
            response.leader_since.CopyFrom(timestamp(leader.since))
        return response


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
    report = instance.report
    return cluster_pb2.InstanceStatus(
        instance_id=instance.instance_id,
        model=instance.model,
        worker_id=instance.worker_id,
        state=STATE_TO_WIRE[instance.state],
        generations=status.generations,
        estimated_seconds=instance.estimated_seconds,
        startup_seconds=report.total_seconds if report and report.complete else 0.0,
        idle_seconds=status.idle_seconds,
        **{"from": tier_to_wire(instance.slowest_tier)},
    )

"""What the cluster is doing, as the leader sees it."""

import asyncio
from dataclasses import dataclass

from kindling.platform.errors import KindlingError
from kindling.platform.logging import get_logger
from kindling.scheduler.domain.values import Instance, Model, Node, ParkedCheckpoint, Tier, TierUse, Worker
from kindling.scheduler.storage_ports import PrefetchCounts, StorageStatus, TierContents
from kindling.scheduler.term import Term

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """A worker with what it has parked, the one parked longest first."""

    worker: Worker
    parked: tuple[ParkedCheckpoint, ...]


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """A live node with what its tiers hold; what its workers have parked is the tier GPU."""

    node: Node
    tiers: tuple[TierContents, ...]
    workers: tuple[WorkerStatus, ...]
    drained: bool = False
    prefetch: PrefetchCounts | None = None
    prefetch_to_ssd: PrefetchCounts | None = None


@dataclass(frozen=True, slots=True)
class InstanceStatus:
    """An instance, its generations in flight and its seconds without work (0 while it has some)."""

    instance: Instance
    generations: int
    idle_seconds: float


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """Nodes, instances and models, each in the order of their names."""

    nodes: tuple[NodeStatus, ...]
    instances: tuple[InstanceStatus, ...]
    models: tuple[Model, ...]


async def cluster_status(term: Term, timeout_seconds: float) -> ClusterStatus:
    """Ask every node at once; one that does not answer in time is shown by its record."""
    async with asyncio.TaskGroup() as tasks:
        asked = [
            tasks.create_task(_node_status(term, node, timeout_seconds)) for _, node in sorted(term.view.nodes.items())
        ]
    return ClusterStatus(
        nodes=tuple(task.result() for task in asked),
        instances=tuple(_instance_status(term, name) for name in sorted(term.view.instances)),
        models=tuple(model for _, model in sorted(term.view.models.items())),
    )


async def _node_status(term: Term, node: Node, timeout_seconds: float) -> NodeStatus:
    try:
        async with asyncio.timeout(timeout_seconds):
            told = await term.storages.status(node)
    except (KindlingError, TimeoutError) as error:
        log.warning("node_status_missing", node=node.node_id, error=str(error))
        told = StorageStatus(tuple(TierContents(use) for use in node.tiers))
    workers = tuple(
        WorkerStatus(worker, term.view.link(worker_id).parked)
        for worker_id, worker in sorted(term.view.workers.items())
        if worker.node_id == node.node_id
    )
    drained = node.node_id in term.view.drained
    tiers = (*_parked_tier(term, workers), *told.tiers)
    return NodeStatus(node, tiers, workers, drained, told.prefetch, told.prefetch_to_ssd)


def _parked_tier(term: Term, workers: tuple[WorkerStatus, ...]) -> tuple[TierContents, ...]:
    """The tier GPU, if there is anything in it; the storage manager does not know of it."""
    size_by_digest = {one.digest: one.size_bytes for worker in workers for one in worker.parked}
    if not size_by_digest:
        return ()
    used_bytes = sum(one.size_bytes for worker in workers for one in worker.parked)
    chunks = {model.checkpoint.digest: model.checkpoint.chunk_count for model in term.view.models.values()}
    checkpoints = tuple((digest, chunks.get(digest, 0), size) for digest, size in size_by_digest.items())
    return (TierContents(TierUse(Tier.GPU, used_bytes=used_bytes, backing="parked"), checkpoints),)


def _instance_status(term: Term, instance_id: str) -> InstanceStatus:
    idle_since = term.view.grants.idle_since(instance_id)
    return InstanceStatus(
        instance=term.view.instances[instance_id],
        generations=term.view.grants.in_flight(instance_id),
        idle_seconds=0.0 if idle_since is None else max(0.0, term.clock.now() - idle_since),
    )

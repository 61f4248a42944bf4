"""How long a model would take to start on a worker."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from kindling.scheduler.domain.values import Checkpoint, InstanceState, Tier, Worker
from kindling.scheduler.domain.view import ClusterView


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What is believed before anything was measured."""

    init_seconds: float = 0.5
    parked_seconds: float = 0.02
    bandwidth_bytes_per_second: Mapping[Tier, float] = field(
        default_factory=lambda: {Tier.GPU: 100e9, Tier.DRAM: 10e9, Tier.SSD: 1e9, Tier.REMOTE: 0.2e9}
    )


@dataclass(frozen=True, slots=True)
class Estimate:
    """The startup time expected on a worker, and what it is made of; ``source`` is the slowest tier it reads from."""

    worker_id: str
    queue_seconds: float
    load_seconds: float
    init_seconds: float
    source: Tier | None

    @property
    def seconds(self) -> float:
        """The startup time: the model is built while its weights arrive, once the loads before it are over."""
        return self.queue_seconds + max(self.load_seconds, self.init_seconds)


def estimate(
    view: ClusterView, worker: Worker, checkpoint: Checkpoint, now: float, assumptions: Assumptions
) -> Estimate:
    """Return the startup time of a checkpoint on a worker whose node is live; for what is parked there, no load."""
    if view.has_parked(worker.worker_id, checkpoint.digest):
        return Estimate(worker.worker_id, 0.0, 0.0, assumptions.parked_seconds, Tier.GPU)
    missing = missing_bytes(view, worker, checkpoint)
    return Estimate(
        worker_id=worker.worker_id,
        queue_seconds=_queue_seconds(view, worker, now),
        load_seconds=sum(count / _path_bandwidth(view, worker, tier, assumptions) for tier, count in missing.items()),
        init_seconds=view.init_seconds(checkpoint.digest, worker.init_seconds or assumptions.init_seconds),
        source=max(missing, default=None),
    )


def missing_bytes(view: ClusterView, worker: Worker, checkpoint: Checkpoint) -> dict[Tier, int]:
    """Bytes not yet at the device, by the fastest tier that has them; every tier holds a head of the checkpoint."""
    covered = 0
    missing: dict[Tier, int] = {}
    for tier in Tier:
        held = view.resident_bytes(worker.node_id, checkpoint.digest, tier)
        end = checkpoint.total_bytes if tier is Tier.REMOTE else min(held, checkpoint.total_bytes)
        if end > covered and tier > worker.device_tier:
            missing[tier] = end - covered
        covered = max(covered, end)
    return missing


def _path_bandwidth(view: ClusterView, worker: Worker, source: Tier, assumptions: Assumptions) -> float:
    """Bytes per second of the slowest tier from ``source`` up to the device."""
    measured = {use.tier: use.bandwidth_bytes_per_second for use in view.nodes[worker.node_id].tiers}
    path = (tier for tier in Tier if worker.device_tier < tier <= source)
    return min(measured.get(tier) or assumptions.bandwidth_bytes_per_second[tier] for tier in path)


def _queue_seconds(view: ClusterView, worker: Worker, now: float) -> float:
    """Seconds until the loads that the node has begun are over, as far as they were foreseen."""
    on_node = (other for other in view.workers.values() if other.node_id == worker.node_id)
    starting = (
        instance
        for other in on_node
        for instance in view.instances_on(other.worker_id)
        if instance.state is InstanceState.STARTING or instance.is_loading
    )
    return sum(max(0.0, instance.started_at + instance.estimated_seconds - now) for instance in starting)

"""Workers that a model might start in, node by node."""

from itertools import chain

from kindling.scheduler.domain.values import Checkpoint, Tier, Worker
from kindling.scheduler.domain.view import ClusterView


def free_worker_on(view: ClusterView, node_id: str) -> Worker | None:
    """A worker with a free slot, or with an instance that would make room."""
    free = (offer.worker for offer in view.slots.on_node(node_id))
    idle = (
        view.workers[instance.worker_id]
        for instance in view.instances_on_node(node_id)
        if instance.worker_id in view.startable and not view.is_busy(instance)
    )
    return next(chain(free, idle), None)


def worker_on(view: ClusterView, node_id: str) -> Worker | None:
    """A worker that a model would start in, or any if none is free; none if there is none."""
    names = sorted(view.workers_on.get(node_id, ()))
    known = (view.workers[name] for name in names if name in view.workers)
    return free_worker_on(view, node_id) or next(known, None)


def has_copy(view: ClusterView, node_id: str, checkpoint: Checkpoint) -> bool:
    """Whether a node has a whole copy of a checkpoint on its SSD."""
    return view.holders.held(node_id, checkpoint.digest).get(Tier.SSD, 0) >= checkpoint.total_bytes


def serves(view: ClusterView, node_id: str) -> bool:
    """Whether a node is live and not drained."""
    return node_id in view.nodes and node_id not in view.drained

"""What it saves a start that bytes of its checkpoint are at a faster tier."""

from kindling.scheduler.domain.estimate import Assumptions
from kindling.scheduler.domain.values import Checkpoint, Node, Tier, Worker
from kindling.scheduler.domain.view import ClusterView


def useful_bytes(view: ClusterView, worker: Worker, checkpoint: Checkpoint, assumptions: Assumptions) -> int:
    """How much of a checkpoint, from its head, is of use in DRAM: the rest streams in from the SSD anyway while the
    model is built and while a device gets its copy."""
    node, bandwidths = view.nodes[worker.node_id], view.experience.bandwidths
    init_seconds = view.experience.init_seconds(checkpoint, worker, Tier.SSD) or assumptions.init_seconds
    copy_seconds = checkpoint.total_bytes * _seconds_per_byte(view, node, worker, Tier.DRAM)
    streamed_bytes = max(init_seconds, copy_seconds) * bandwidths.path(node, Tier.SSD, worker.device_tier)
    return max(0, checkpoint.total_bytes - int(streamed_bytes))


def seconds_per_byte(view: ClusterView, worker: Worker, source: Tier, to: Tier = Tier.DRAM) -> float:
    """How much sooner a byte is at a worker's device if it is at the tier ``to`` of the worker's node rather than at
    ``source``; 0 or less if that is no faster."""
    node = view.nodes[worker.node_id]
    return _seconds_per_byte(view, node, worker, source) - _seconds_per_byte(view, node, worker, to)


def _seconds_per_byte(view: ClusterView, node: Node, worker: Worker, tier: Tier) -> float:
    """What a byte at a tier takes to the device: nothing if that computes on the tier."""
    if tier <= worker.device_tier:
        return 0.0
    return 1 / view.experience.bandwidths.path(node, tier, worker.device_tier)

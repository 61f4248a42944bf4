"""What could be brought from an SSD to DRAM ahead of a call, and where that is of most use.

Heads come first, quarter by quarter, so that many models can start from them; and nothing is brought that streams in
anyway while the model is built.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice

from kindling.scheduler.domain.estimate import Assumptions
from kindling.scheduler.domain.values import Checkpoint, Node, Tier, Worker
from kindling.scheduler.domain.view import ClusterView

_PIECES = 4  # of a checkpoint, one for each promotion
_MOST_NODES = 32  # looked at


@dataclass(frozen=True, slots=True)
class PrefetchLimits:
    """How far ahead to look, and what may be spent. Shares are of an SSD's bandwidth and of a node's DRAM."""

    horizon_seconds: float = 120.0
    min_probability: float = 0.2
    bandwidth_share: float = 0.5
    dram_share: float = 0.5


@dataclass(frozen=True, slots=True)
class Promotion:
    """Bring the first ``head_bytes`` of a checkpoint to a node's DRAM, within the bounds.

    What is in ``give_way`` may be dropped for it, the first first. ``stage`` pieces of it are there already."""

    node_id: str
    digest: str
    head_bytes: int
    bytes_per_second: float
    unused_limit_bytes: int
    probability: float
    seconds_saved_per_byte: float
    stage: int = 0
    give_way: tuple[str, ...] = ()

    @property
    def benefit(self) -> float:
        """Seconds of waiting that each byte is expected to save."""
        return self.probability * self.seconds_saved_per_byte


@dataclass(frozen=True, slots=True)
class PromotionSearch:
    """Where a checkpoint that is called with so much ``probability`` would best be brought to DRAM."""

    limits: PrefetchLimits
    assumptions: Assumptions
    view: ClusterView
    checkpoint: Checkpoint
    probability: float

    def best(self, under_way: dict[str, Promotion]) -> Promotion | None:
        """The node that has most of it in DRAM, of those without one ``under_way`` if there are any.

        None if a node has all that helps already, busy or not, or none has it on its SSD. A second copy would often be
        at the cost of another checkpoint's only one.
        """
        found = []
        for node in self._holders():
            if (worker := self._worker_on(node.node_id)) is None:
                continue
            promotion = self._promotion(node, worker)
            if promotion is None:
                return None
            if self._is_place(node):
                order = node.node_id in under_way, -promotion.head_bytes, -promotion.bytes_per_second, node.node_id
                found.append((order, promotion))
        return min(found)[1] if found else None

    def _holders(self) -> Iterator[Node]:
        """Live nodes that serve and hold something of it."""
        view = self.view
        for node_id in islice(view.holders.nodes(self.checkpoint.digest), _MOST_NODES):
            if node_id in view.nodes and node_id not in view.drained:
                yield view.nodes[node_id]

    def _is_place(self, node: Node) -> bool:
        """Whether a node has a whole copy on its SSD, loads nothing, and has a worker that could start the model."""
        held = self.view.holders.held(node.node_id, self.checkpoint.digest)
        is_copied = held.get(Tier.SSD, 0) >= self.checkpoint.total_bytes
        is_quiet = not self.view.loads.on_node(node.node_id)
        return is_copied and is_quiet and self._free_worker_on(node.node_id) is not None

    def _worker_on(self, node_id: str) -> Worker | None:
        """A worker that the model would start in, or any if none is free."""
        names = sorted(self.view.workers_on.get(node_id, ()))
        known = (self.view.workers[name] for name in names if name in self.view.workers)
        return self._free_worker_on(node_id) or next(known, None)

    def _free_worker_on(self, node_id: str) -> Worker | None:
        """A worker with a free slot, or with an instance that would make room."""
        view = self.view
        free = (offer.worker for offer in view.slots.on_node(node_id))
        idle = (
            view.workers[instance.worker_id]
            for instance in view.instances_on_node(node_id)
            if instance.worker_id in view.startable and not view.is_busy(instance)
        )
        return next(chain(free, idle), None)

    def _promotion(self, node: Node, worker: Worker) -> Promotion | None:
        """The next piece for a node; none if more would save nothing there."""
        total_bytes, bandwidths = self.checkpoint.total_bytes, self.view.experience.bandwidths
        speed = bandwidths.path(node, Tier.SSD, worker.device_tier)
        known_seconds = self.view.experience.init_seconds(self.checkpoint, worker, Tier.SSD)
        init_seconds = known_seconds or self.assumptions.init_seconds
        useful_bytes = total_bytes - int(init_seconds * speed)
        held_bytes = self.view.holders.held(node.node_id, self.checkpoint.digest).get(Tier.DRAM, 0)
        saved = 1 / speed - _seconds_per_byte_from_dram(self.view, node, worker)
        if held_bytes >= useful_bytes or saved <= 0:
            return None
        piece_bytes = math.ceil(total_bytes / _PIECES)
        return Promotion(
            node_id=node.node_id,
            digest=self.checkpoint.digest,
            head_bytes=min(useful_bytes, held_bytes + piece_bytes),
            bytes_per_second=self.limits.bandwidth_share * bandwidths.path(node, Tier.SSD, Tier.DRAM),
            unused_limit_bytes=int(self.limits.dram_share * _dram_bytes(node)),
            probability=self.probability,
            seconds_saved_per_byte=saved,
            stage=held_bytes // piece_bytes,
        )


def _seconds_per_byte_from_dram(view: ClusterView, node: Node, worker: Worker) -> float:
    """What a byte in DRAM still takes to the device: nothing where that computes on DRAM."""
    if worker.device_tier is Tier.DRAM:
        return 0.0
    return 1 / view.experience.bandwidths.path(node, Tier.DRAM, worker.device_tier)


def _dram_bytes(node: Node) -> int:
    return sum(use.capacity_bytes for use in node.tiers if use.tier is Tier.DRAM)

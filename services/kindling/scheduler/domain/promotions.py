"""What could be brought from an SSD to DRAM ahead of a call, and where that is of most use.

Heads come first, quarter by quarter, so that many models can start from them; and nothing is brought that streams in
anyway while the model is built.
"""

import math
from collections.abc import Container, Iterator
from dataclasses import dataclass
from itertools import islice

from kindling.scheduler.domain.estimate import Assumptions
from kindling.scheduler.domain.hosts import free_worker_on, has_copy, serves, worker_on
from kindling.scheduler.domain.savings import seconds_per_byte, useful_bytes
from kindling.scheduler.domain.values import Checkpoint, Node, Tier, Worker
from kindling.scheduler.domain.view import ClusterView

_PIECES = 4  # of a checkpoint, one for each promotion
_MOST_NODES = 32  # looked at


@dataclass(frozen=True, slots=True)
class PrefetchLimits:
    """How far ahead to look, further for what comes from the remote store, and what may be spent. Shares are of a
    link's bandwidth, of a node's DRAM and of its SSD."""

    horizon_seconds: float = 120.0
    remote_horizon_seconds: float = 600.0
    min_probability: float = 0.2
    bandwidth_share: float = 0.5
    dram_share: float = 0.5
    ssd_share: float = 0.5


@dataclass(frozen=True, slots=True)
class GiveWay:
    """A checkpoint whose chunks may be dropped for another's, but for the first ``keep_bytes``."""

    digest: str
    keep_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Promotion:
    """Bring the first ``head_bytes`` of a checkpoint to a node's DRAM, or a whole copy to its SSD, within the bounds.

    What is in ``give_way`` may be dropped for it, the first first. ``stage`` pieces of it are there already."""

    worker_id: str  # in which the start is expected
    digest: str
    head_bytes: int
    bytes_per_second: float
    unused_limit_bytes: int
    probability: float
    seconds_saved_per_byte: float
    stage: int = 0
    give_way: tuple[GiveWay, ...] = ()
    to: Tier = Tier.DRAM

    @property
    def node_id(self) -> str:
        """The node that it is brought to."""
        return self.worker_id.rpartition("/")[0]

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

    def best(self, under_way: Container[tuple[str, Tier]]) -> Promotion | None:
        """The node that has most of it in DRAM, of those without one ``under_way`` if there are any.

        None if a node has all that helps already, busy or not, or none has it on its SSD. A second copy would often be
        at the cost of another checkpoint's only one.
        """
        found = []
        for node in self._holders():
            if (worker := worker_on(self.view, node.node_id)) is None:
                continue
            promotion = self._promotion(node, worker)
            if promotion is None:
                return None
            if self._is_place(node):
                is_taken = (node.node_id, Tier.DRAM) in under_way
                order = is_taken, -promotion.head_bytes, -promotion.bytes_per_second, node.node_id
                found.append((order, promotion))
        return min(found)[1] if found else None

    def _holders(self) -> Iterator[Node]:
        """Live nodes that serve and hold something of it."""
        view = self.view
        for node_id in islice(view.holders.nodes(self.checkpoint.digest), _MOST_NODES):
            if serves(view, node_id):
                yield view.nodes[node_id]

    def _is_place(self, node: Node) -> bool:
        """Whether a node has a whole copy on its SSD, loads nothing, and has a worker that could start the model."""
        is_quiet = not self.view.loads.on_node(node.node_id)
        is_free = free_worker_on(self.view, node.node_id) is not None
        return has_copy(self.view, node.node_id, self.checkpoint) and is_quiet and is_free

    def _promotion(self, node: Node, worker: Worker) -> Promotion | None:
        """The next piece for a node; none if more would save nothing there."""
        useful = useful_bytes(self.view, worker, self.checkpoint, self.assumptions)
        held_bytes = self.view.holders.held(node.node_id, self.checkpoint.digest).get(Tier.DRAM, 0)
        saved = seconds_per_byte(self.view, worker, Tier.SSD)
        if held_bytes >= useful or saved <= 0:
            return None
        piece_bytes = math.ceil(self.checkpoint.total_bytes / _PIECES)
        ssd_speed = self.view.experience.bandwidths.path(node, Tier.SSD, Tier.DRAM)
        return Promotion(
            worker_id=worker.worker_id,
            digest=self.checkpoint.digest,
            head_bytes=min(useful, held_bytes + piece_bytes),
            bytes_per_second=self.limits.bandwidth_share * ssd_speed,
            unused_limit_bytes=int(self.limits.dram_share * _dram_bytes(node)),
            probability=self.probability,
            seconds_saved_per_byte=saved,
            stage=held_bytes // piece_bytes,
        )


def _dram_bytes(node: Node) -> int:
    return sum(use.capacity_bytes for use in node.tiers if use.tier is Tier.DRAM)

"""Which checkpoints to copy from the remote store to an SSD ahead of calls: those of which no SSD has a copy."""

from collections.abc import Container, Iterator
from dataclasses import dataclass
from itertools import islice
from zlib import crc32

from kindling.scheduler.domain.arrivals import Arrivals
from kindling.scheduler.domain.hosts import free_worker_on, has_copy, serves
from kindling.scheduler.domain.promotions import GiveWay, PrefetchLimits, Promotion
from kindling.scheduler.domain.savings import seconds_per_byte
from kindling.scheduler.domain.values import Checkpoint, Node, Tier, TierUse, Worker
from kindling.scheduler.domain.view import ClusterView

_CLEARLY_MORE = 1.25  # times what is lost
_WITH_ANOTHER_COPY = 0.25  # of the loss, where another node has one: that may be busy
_MOST_NODES = 32  # looked at
_MOST_TRIED = 2  # of them, for room
_MOST_TO_GIVE_WAY = 64  # looked at
_UNBOUNDED_BYTES = 1 << 62


def is_copied(view: ClusterView, checkpoint: Checkpoint, but_on: str = "") -> bool:
    """Whether a node that serves has a copy on its SSD, other than ``but_on``."""
    holding = islice(view.holders.nodes(checkpoint.digest), _MOST_NODES)
    return any(name != but_on and serves(view, name) and has_copy(view, name, checkpoint) for name in holding)


@dataclass(frozen=True, slots=True)
class CopySearch:
    """Where a checkpoint that is called with so much ``probability`` would best be copied to."""

    limits: PrefetchLimits
    view: ClusterView
    arrivals: Arrivals
    checkpoint: Checkpoint
    probability: float
    now: float

    def best(self, under_way: Container[tuple[str, Tier]]) -> Promotion | None:
        """The node with most room, of those without a copy ``under_way`` if there are any. None if there is no room,
        even if copies give way that lose clearly less by it than is gained."""
        found = []
        for node in self._some_nodes():
            worker = free_worker_on(self.view, node.node_id)
            if worker is not None and self._is_place(node, worker):
                room_bytes = self._room_bytes(node)
                order = (node.node_id, Tier.SSD) in under_way, -room_bytes, node.node_id
                found.append((order, worker, room_bytes))
        for _, worker, room_bytes in sorted(found, key=lambda one: one[0])[:_MOST_TRIED]:
            if (promotion := self._promotion(worker, room_bytes)) is not None:
                return promotion
        return None

    def _some_nodes(self) -> Iterator[Node]:
        """A bounded number of nodes that serve: for each checkpoint others, so that copies spread."""
        names = list(self.view.nodes)
        first = crc32(self.checkpoint.digest.encode()) % len(names) if names else 0
        for name in (names[first:] + names[:first])[:_MOST_NODES]:
            if serves(self.view, name):
                yield self.view.nodes[name]

    def _is_place(self, node: Node, worker: Worker) -> bool:
        is_too_small = worker.worker_id in self.view.sizes.too_small(self.checkpoint.total_bytes)
        return not is_too_small and not self.view.loads.on_node(node.node_id)

    def _room_bytes(self, node: Node) -> float:
        return _capacity_bytes(node) - self.view.holders.on_ssd_bytes(node.node_id)

    def _promotion(self, worker: Worker, room_bytes: float) -> Promotion | None:
        saved = seconds_per_byte(self.view, worker, Tier.REMOTE, Tier.SSD)
        others = self._giving_way(worker, self.checkpoint.total_bytes - room_bytes, saved)
        if saved <= 0 or others is None:
            return None
        node = self.view.nodes[worker.node_id]
        remote_speed = self.view.experience.bandwidths.path(node, Tier.REMOTE, Tier.SSD)
        return Promotion(
            worker_id=worker.worker_id,
            digest=self.checkpoint.digest,
            head_bytes=self.checkpoint.total_bytes,
            bytes_per_second=self.limits.bandwidth_share * remote_speed,
            unused_limit_bytes=int(min(self.limits.ssd_share * _capacity_bytes(node), _UNBOUNDED_BYTES)),
            probability=self.probability,
            seconds_saved_per_byte=saved,
            give_way=others,
            to=Tier.SSD,
        )

    def _giving_way(self, worker: Worker, missing_bytes: float, saved: float) -> tuple[GiveWay, ...] | None:
        """The copies that make room with the least loss; none if that is not clearly less than what is gained."""
        near = self.arrivals.nearness(self.checkpoint.digest, self.now, self.limits.remote_horizon_seconds)
        affordable = near * saved * self.checkpoint.total_bytes / _CLEARLY_MORE
        others, lost = [], 0.0
        for lost_per_byte, checkpoint in sorted(
            self._residents(worker, saved), key=lambda one: (one[0], one[1].digest)
        ):
            if missing_bytes <= 0:
                break
            others.append(GiveWay(checkpoint.digest))
            missing_bytes -= checkpoint.total_bytes
            lost += lost_per_byte * checkpoint.total_bytes
        return None if missing_bytes > 0 or (others and lost >= affordable) else tuple(others)

    def _residents(self, worker: Worker, saved: float) -> Iterator[tuple[float, Checkpoint]]:
        """Copies on a node's SSD, with the seconds that each byte's going costs."""
        view, node_id = self.view, worker.node_id
        for digest in islice(view.holders.on_ssd(node_id), _MOST_TO_GIVE_WAY):
            checkpoint = Checkpoint(digest, view.holders.held(node_id, digest)[Tier.SSD])
            near = self.arrivals.nearness_at_most(digest, self.now, self.limits.remote_horizon_seconds)
            share = _WITH_ANOTHER_COPY if is_copied(view, checkpoint, but_on=node_id) else 1.0
            yield share * near * saved, checkpoint


def _capacity_bytes(node: Node) -> float:
    """The size of a node's SSD; what does not tell is bounded by its file system alone."""
    uses: Iterator[TierUse] = (use for use in node.tiers if use.tier is Tier.SSD)
    return next((use.capacity_bytes for use in uses if use.capacity_bytes), _UNBOUNDED_BYTES)

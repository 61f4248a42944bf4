"""What to bring from SSDs to DRAM before it is asked for. Pure: (view, arrivals, now) → promotions.

A promotion's benefit is the probability of a call within the horizon times the seconds that each of its bytes saves.
Heads come first, quarter by quarter, so that many models can start from them; and nothing is brought that streams in
anyway while the model is built.
"""

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice

from kindling.scheduler.domain.arrivals import Arrivals
from kindling.scheduler.domain.estimate import Assumptions
from kindling.scheduler.domain.ranking import Ranking
from kindling.scheduler.domain.values import Checkpoint, InstanceState, Model, Node, Tier, Worker
from kindling.scheduler.domain.view import ClusterView

_PIECES = 4  # of a checkpoint, one for each promotion
_CLEARLY_COLDER = 0.5  # what gives way is at most so probable, over what comes
_RECHECKS_PER_HORIZON = 8
_LONGEST_UNREVIEWED_SECONDS = 86_400.0
_SOON_SECONDS = 0.3  # until the cluster has heard of what was brought
# Bounds on the work of one plan.
_LEAST_SECONDS_BETWEEN_PLANS = 0.1
_MOST_REVIEWS = 16
_MOST_NODES = 32
_MOST_TO_GIVE_WAY = 64


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


class Prefetcher:
    """Learns from calls, and says what to promote. At most one promotion is under way on a node.

    Each checkpoint is reviewed when its probability may have risen, never all of them at once.
    """

    def __init__(
        self, arrivals: Arrivals, assumptions: Assumptions | None = None, limits: PrefetchLimits | None = None
    ) -> None:
        self._arrivals = arrivals
        self._assumptions = assumptions or Assumptions()
        self._limits = limits or PrefetchLimits()
        self._recheck_seconds = self._limits.horizon_seconds / _RECHECKS_PER_HORIZON
        self._reviews = Ranking[float]()
        self._models: defaultdict[str, set[str]] = defaultdict(set)  # by digest
        self._under_way: dict[str, Promotion] = {}  # by node
        self._not_before = -math.inf

    def note(self, model: Model, now: float) -> None:
        """A model is called."""
        digest = model.checkpoint.digest
        self._models[digest].add(model.name)
        if self._arrivals.note(digest, now):
            self._reviews.put(digest, now + self._recheck_seconds)

    def forget(self, digest: str) -> None:
        """Bring nothing of a checkpoint until new calls have told when it is needed."""
        self._arrivals.forget(digest)
        self._reviews.drop(digest)
        self._models.pop(digest, None)

    def plan(self, view: ClusterView, now: float) -> list[Promotion]:
        """Return the promotions to begin now; each is under way until :meth:`ended` is called."""
        self._not_before = now + _LEAST_SECONDS_BETWEEN_PLANS
        wanted = [promotion for digest in self._due(now) if (promotion := self._review(view, digest, now))]
        wanted.sort(key=lambda promotion: (promotion.stage, -promotion.benefit, promotion.digest))
        begun = []
        for promotion in wanted:
            if promotion.node_id in self._under_way:
                self._reviews.put(promotion.digest, now + _SOON_SECONDS)
            else:
                begun.append(replace(promotion, give_way=self._colder(view, promotion, now)))
                self._under_way[promotion.node_id] = begun[-1]
        return begun

    def ended(self, promotion: Promotion, now: float, *, is_done: bool) -> None:
        """A promotion is over; if it was not cut short, the next piece may follow."""
        if self._under_way.get(promotion.node_id) == promotion:
            del self._under_way[promotion.node_id]
            if is_done and promotion.digest in self._models:
                self._reviews.put(promotion.digest, now + _SOON_SECONDS)

    def next_look(self) -> float:
        """When :meth:`plan` has something to look at next; infinity if nothing is to come without a call."""
        first = next(iter(self._reviews), None)
        return math.inf if first is None else max(first[0], self._not_before)

    # Reviews

    def _due(self, now: float) -> list[str]:
        due = [digest for time, digest in islice(self._reviews, _MOST_REVIEWS) if time <= now]
        for digest in due:
            self._reviews.drop(digest)
        return due

    def _review(self, view: ClusterView, digest: str, now: float) -> Promotion | None:
        model = self._model_of(view, digest)
        if model is None:
            self.forget(digest)
            return None
        probability = self._arrivals.probability(digest, now, self._limits.horizon_seconds)
        self._schedule(digest, probability, now)
        if probability < self._limits.min_probability or self._starts_at_once(view, digest):
            return None
        return _Search(self._limits, self._assumptions, view, model.checkpoint, probability).best(self._under_way)

    def _schedule(self, digest: str, probability: float, now: float) -> None:
        is_wanted = probability >= self._limits.min_probability
        rise = now if is_wanted else self._arrivals.next_rise(digest, now, self._limits.horizon_seconds)
        # When it begins to rise, the probability is still what it was: some time later it is higher.
        self._reviews.put(digest, min(rise + self._recheck_seconds, now + _LONGEST_UNREVIEWED_SECONDS))

    def _model_of(self, view: ClusterView, digest: str) -> Model | None:
        """One of the models that were called and point at a checkpoint."""
        known = (view.models.get(name) for name in sorted(self._models.get(digest, ())))
        return next((model for model in known if model is not None and model.checkpoint.digest == digest), None)

    def _starts_at_once(self, view: ClusterView, digest: str) -> bool:
        """Whether a call would find an instance, or a worker that has the checkpoint parked."""
        names = self._models.get(digest, ())
        instances = (view.instances[one] for name in names for one in view.of_model.get(name, ()))
        if any(one.digest == digest and one.state is not InstanceState.STOPPING for one in instances):
            return True
        return not view.startable.isdisjoint(view.holders.parked_in(digest))

    def _colder(self, view: ClusterView, promotion: Promotion, now: float) -> tuple[str, ...]:
        """What is in the node's DRAM and clearly less probable to be called, the least probable first.

        Soon, if that can be said, for within the horizon everything may be called.
        """
        arrivals, horizon_seconds = self._arrivals, self._recheck_seconds
        bound = _CLEARLY_COLDER * arrivals.probability(promotion.digest, now, horizon_seconds)
        if bound < _CLEARLY_COLDER * self._limits.min_probability:
            horizon_seconds, bound = self._limits.horizon_seconds, _CLEARLY_COLDER * promotion.probability
        there = islice(view.holders.in_dram(promotion.node_id), _MOST_TO_GIVE_WAY)
        others = [digest for digest in there if digest != promotion.digest]
        heat = {one: arrivals.probability_at_most(one, now, horizon_seconds) for one in others}
        return tuple(sorted((one for one in others if heat[one] < bound), key=lambda one: (heat[one], one)))


@dataclass(frozen=True, slots=True)
class _Search:
    """The best node for a promotion of one checkpoint."""

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
        init_seconds = self.view.experience.init_seconds(self.checkpoint, worker) or self.assumptions.init_seconds
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

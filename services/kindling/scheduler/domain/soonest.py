"""Which free slot starts a model soonest, found without a look at every one of them."""

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from kindling.scheduler.domain.estimate import ESTIMATE_DIGITS, Assumptions, Estimate, estimate
from kindling.scheduler.domain.free_slots import Group, Offer
from kindling.scheduler.domain.values import Checkpoint, Tier, Worker
from kindling.scheduler.domain.view import ClusterView

Rank = tuple[float, bool, float, float, str]


def soonest(
    view: ClusterView, checkpoint: Checkpoint, barred: AbstractSet[str], now: float, assumptions: Assumptions
) -> list[Estimate]:
    """Return placements on workers with a free slot and memory that are not barred, the best first; maybe none.

    The first is the best of all. Of equal ones it is the one whose node loads nothing, that has the faster path from
    the remote store, that builds models sooner, then by worker. Not every other is there: those that have nothing of
    the checkpoint are looked at only until no further one can be better.
    """
    if not view.slots:
        return []
    search = _Search(view, checkpoint, barred, now, assumptions)
    search.look_at_holders()
    for group in view.slots.groups():
        search.walk(group)
    return search.placements()


def rank(offer: Offer, placement: Estimate) -> Rank:
    """The order of placements; the least is the best."""
    worker = offer.worker
    return placement.seconds, offer.group.is_loading, -offer.speed, worker.init_seconds, worker.worker_id


@dataclass(slots=True)
class _Search:
    view: ClusterView
    checkpoint: Checkpoint
    barred: AbstractSet[str]
    now: float
    assumptions: Assumptions
    best: Rank | None = None
    _seen: dict[str, tuple[Rank, Estimate]] = field(default_factory=dict)
    _nodes: set[str] = field(default_factory=set)
    _workers: set[str] = field(default_factory=set)

    def placements(self) -> list[Estimate]:
        return [placement for _, placement in sorted(self._seen.values(), key=lambda seen: seen[0])]

    def look_at_holders(self) -> None:
        """Those that have something of the checkpoint, or soon will: one of each kind on a node."""
        digest = self.checkpoint.digest
        self._workers |= set(self.view.holders.parked_in(digest))
        self._nodes |= {*self.view.holders.nodes(digest), *self.view.loads.nodes_of(digest)}
        for offer in filter(None, map(self.view.slots.offer, self._workers)):
            self._look([offer])
        for node_id in self._nodes:
            self._look(self._one_of_each_kind(node_id))

    def walk(self, group: Group) -> None:
        """The rest of a group, by speed and by building at once, until no further one can be better."""
        slots = self.view.slots
        for fast, quick in zip(self._plain(slots.fastest(group)), self._plain(slots.quickest(group)), strict=True):
            self._look((fast, quick))
            if self._is_settled(group, self._least_seconds(fast.speed, quick.worker)):
                return

    def _is_settled(self, group: Group, least_seconds: float) -> bool:
        """Whether nothing that takes at least so long can be the best.

        Where nothing is waited for, who comes first in both orders is also the best of equal ones.
        """
        assert self.best is not None
        seconds, is_loading = self.best[:2]
        return least_seconds > seconds or (least_seconds == seconds and not (group.is_loading and is_loading))

    def _least_seconds(self, speed: float, worker: Worker) -> float:
        """What a start takes at least that reads everything from the remote store, and waits for no other."""
        learned, source = self.view.experience, Tier.REMOTE
        load_seconds = learned.bandwidths.seconds(source, self.checkpoint.total_bytes, speed)
        init_seconds = learned.init_seconds(self.checkpoint, worker, source) or self.assumptions.init_seconds
        return round(learned.dispatch_seconds + max(load_seconds, init_seconds), ESTIMATE_DIGITS)

    def _plain(self, offers: Iterable[Offer]) -> Iterator[Offer]:
        """Those allowed that have nothing of the checkpoint."""
        for offer in offers:
            worker = offer.worker
            if self._fits(offer) and not (worker.worker_id in self._workers or worker.node_id in self._nodes):
                yield offer

    def _one_of_each_kind(self, node_id: str) -> Iterator[Offer]:
        """A node's offers, of those with the same estimate the first alone."""
        busy = {load.worker.worker_id for load in self.view.loads.on_node(node_id)}
        kinds = set()
        for offer in self.view.slots.on_node(node_id):
            worker = offer.worker
            if not self._fits(offer):
                continue
            kind = offer.group, worker.init_seconds, worker.worker_id if worker.worker_id in busy else ""
            if kind not in kinds and worker.worker_id not in self._workers:
                kinds.add(kind)
                yield offer

    def _fits(self, offer: Offer) -> bool:
        return offer.worker.worker_id not in self.barred and offer.holds(self.checkpoint.total_bytes)

    def _look(self, offers: Iterable[Offer]) -> None:
        for offer in offers:
            name = offer.worker.worker_id
            if name not in self._seen and self._fits(offer):
                placement = estimate(self.view, offer.worker, self.checkpoint, self.now, self.assumptions)
                ranked = rank(offer, placement)
                self._seen[name] = ranked, placement
                self.best = ranked if self.best is None else min(self.best, ranked)

"""When to bring what from SSDs to DRAM, or from the remote store to SSDs, before it is asked for. Pure: (view,
arrivals, now) → promotions.

A promotion's benefit is the probability of a call within the horizon times the seconds that each of its bytes saves.
"""

import math
from collections import defaultdict
from dataclasses import replace
from itertools import islice

from kindling.scheduler.domain.arrivals import Arrivals
from kindling.scheduler.domain.copies import CopySearch, is_copied
from kindling.scheduler.domain.displacement import Displacement
from kindling.scheduler.domain.estimate import Assumptions
from kindling.scheduler.domain.promotions import PrefetchLimits, Promotion, PromotionSearch
from kindling.scheduler.domain.ranking import Ranking
from kindling.scheduler.domain.values import InstanceState, Model, Tier
from kindling.scheduler.domain.view import ClusterView

_RECHECKS_PER_HORIZON = 8
_LONGEST_UNREVIEWED_SECONDS = 86_400.0
_SOON_SECONDS = 0.3  # until the cluster has heard of what was brought
# Bounds on the work of one plan.
_LEAST_SECONDS_BETWEEN_PLANS = 0.1
_MOST_REVIEWS = 16


class Prefetcher:
    """Learns from calls, and says what to promote. At most one promotion to each tier is under way on a node.

    Each checkpoint is reviewed when its probability may have risen, never all of them at once.
    """

    def __init__(
        self, arrivals: Arrivals, assumptions: Assumptions | None = None, limits: PrefetchLimits | None = None
    ) -> None:
        self._arrivals = arrivals
        self._assumptions = assumptions or Assumptions()
        self._limits = limits or PrefetchLimits()
        self._reviews = Ranking[float]()
        self._models: defaultdict[str, set[str]] = defaultdict(set)  # by digest
        self._under_way: dict[tuple[str, Tier], Promotion] = {}
        self._not_before = -math.inf

    def note(self, model: Model, now: float) -> None:
        """A model is called."""
        digest = model.checkpoint.digest
        self._models[digest].add(model.name)
        if self._arrivals.note(digest, now):
            self._reviews.put(digest, now + self._limits.horizon_seconds / _RECHECKS_PER_HORIZON)

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
            place = promotion.node_id, promotion.to
            if place in self._under_way:
                self._reviews.put(promotion.digest, now + _SOON_SECONDS)
            else:
                begun.append(self._bounded(view, promotion, now))
                self._under_way[place] = begun[-1]
        return begun

    def ended(self, promotion: Promotion, now: float, *, is_done: bool) -> None:
        """A promotion is over; if it was not cut short, the next piece may follow."""
        place = promotion.node_id, promotion.to
        if self._under_way.get(place) == promotion:
            del self._under_way[place]
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
        limits, is_here = self._limits, is_copied(view, model.checkpoint)
        horizon_seconds = limits.horizon_seconds if is_here else limits.remote_horizon_seconds
        probability = self._arrivals.probability(digest, now, horizon_seconds)
        self._schedule(digest, probability, now, horizon_seconds)
        if probability < limits.min_probability or self._starts_at_once(view, digest):
            return None
        if is_here:
            promotion = PromotionSearch(limits, self._assumptions, view, model.checkpoint, probability)
            return promotion.best(self._under_way)
        copy = CopySearch(limits, view, self._arrivals, model.checkpoint, probability, now)
        return copy.best(self._under_way)

    def _schedule(self, digest: str, probability: float, now: float, horizon_seconds: float) -> None:
        is_wanted = probability >= self._limits.min_probability
        rise = now if is_wanted else self._arrivals.next_rise(digest, now, horizon_seconds)
        # When it begins to rise, the probability is still what it was: some time later it is higher.
        recheck_seconds = horizon_seconds / _RECHECKS_PER_HORIZON
        self._reviews.put(digest, min(rise + recheck_seconds, now + _LONGEST_UNREVIEWED_SECONDS))

    def _bounded(self, view: ClusterView, promotion: Promotion, now: float) -> Promotion:
        """A promotion to DRAM with what may give way for it; a copy's search has found that already."""
        if promotion.to is Tier.SSD:
            return promotion
        others = Displacement(view, self._arrivals, self._assumptions, self._limits.horizon_seconds)
        return replace(promotion, give_way=others.give_way(promotion, now))

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

"""Prefetching that the scheduler decides, as the service has it carried out, under virtual time."""

import math
from collections.abc import Callable

from kindling.scheduler.domain.arrivals import Arrivals
from kindling.scheduler.domain.prefetch import Prefetcher
from kindling.scheduler.domain.promotions import Promotion
from kindling.scheduler.domain.view import ClusterView
from kindling.simulate.simulated_cluster import SimulatedCluster


class Prefetching:
    """Tells the prefetcher of calls, looks when it says so, and has nodes do what it says.

    ``changed`` is told of a node whose DRAM may hold something else. Looks end with the last thing there is to do
    otherwise: a prefetcher that knows daily habits would look every day.
    """

    def __init__(self, cluster: SimulatedCluster, view: ClusterView, changed: Callable[[str], None]) -> None:
        self._cluster = cluster
        self._events = cluster.events
        self._view = view
        self._changed = changed
        self._prefetcher = Prefetcher(Arrivals(self._events.now))
        self._looks_at = math.inf

    def note_call(self, model: str) -> None:
        """A model is called."""
        self._prefetcher.note(self._view.models[model], self._events.now)
        self._look_in_time()

    def _look_in_time(self) -> None:
        """Look when the prefetcher wants to, unless that is planned, or something sooner."""
        if (at := self._prefetcher.next_look()) < self._looks_at:
            self._looks_at = at
            self._events.meanwhile(at, lambda: self._look(at))

    def _look(self, planned_at: float) -> None:
        if planned_at != self._looks_at:
            return  # a sooner look came in between
        self._looks_at = math.inf
        for promotion in self._prefetcher.plan(self._view, self._events.now):
            self._promote(promotion)
        self._look_in_time()

    def _promote(self, promotion: Promotion) -> None:
        def ended(is_done: bool) -> None:
            self._changed(promotion.node_id)
            self._prefetcher.ended(promotion, self._events.now, is_done=is_done)
            self._look_in_time()

        self._cluster.prefetch(promotion, ended)

"""Requests that would rather not run on some instances: whom that lets go first, and for how long."""

from kindling.scheduler.domain import scaling
from kindling.scheduler.domain.lines import WaitingLines
from kindling.scheduler.domain.policy import instance_with_room
from kindling.scheduler.domain.values import Model, Request
from kindling.scheduler.domain.view import ClusterView


class Choosy:
    """Knows what requests avoid: no longer than ``avoid_seconds`` if nothing else will serve them."""

    def __init__(self, view: ClusterView, lines: WaitingLines, avoid_seconds: float) -> None:
        self._view = view
        self._lines = lines
        self._avoid_seconds = avoid_seconds

    def next_in_line(self, model: Model, now: float) -> tuple[Request | None, frozenset[str]]:
        """Who is served next, and what they avoid: the first who can run on what there is, else whose turn it is."""
        for request in self._lines.in_turn(model.name):
            avoid = self.avoided(request, model, now)
            if instance_with_room(self._view, model, avoid) is not None:
                return request, avoid
            if not avoid:
                break  # nobody who is choosier has a place either
        head = self._lines.next(model.name)
        return head, self.avoided(head, model, now) if head else frozenset()

    def avoided(self, request: Request, model: Model, now: float) -> frozenset[str]:
        """What a request still avoids: it takes anything once it has waited a while and nothing starts elsewhere."""
        if not request.avoid or now < request.arrived_at + self._avoid_seconds:
            return request.avoid
        others = (one for one in self._view.instances_of(model.name) if one.instance_id not in request.avoid)
        return request.avoid if any(scaling.will_serve(self._view, one) for one in others) else frozenset()

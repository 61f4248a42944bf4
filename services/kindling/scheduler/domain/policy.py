"""The policy: what to do for a model that needs room. Pure: (view, need, now) → decision."""

import math
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from kindling.scheduler.domain import scaling
from kindling.scheduler.domain.decisions import Decision, MakeRoom, Need, StartInstance, Wait, WaitReason
from kindling.scheduler.domain.departures import Departures
from kindling.scheduler.domain.estimate import Assumptions, Estimate, estimate, expected_at
from kindling.scheduler.domain.gangs import GangSearch
from kindling.scheduler.domain.rooms import Room, RoomSearch
from kindling.scheduler.domain.values import NEVER, Instance, Model, Worker
from kindling.scheduler.domain.view import ClusterView

_ALTERNATIVES = 3  # to tell of


@dataclass(frozen=True, slots=True)
class Policy:
    """The smallest startup time wins, be it in a free slot or in one from which another has to stop or move first."""

    assumptions: Assumptions = field(default_factory=Assumptions)
    migrates: bool = True  # whether busy instances move to make room
    consolidates: bool = True  # whether those of one model go on in fewer instances to make room

    def decide(self, view: ClusterView, need: Need, now: float) -> Decision:
        """Return how a model comes to the instances that it wants. Call again once the decision is in the view."""
        if (enough := _has_enough(view, need)) is not None:
            return Wait(enough)
        return self.place(view, need, now)

    def place(self, view: ClusterView, need: Need, now: float) -> StartInstance | MakeRoom | Wait:
        """Return how one more instance of a model comes to be, elsewhere than those to be avoided.

        Busy instances move or are waited for only where somebody waits.
        """
        shunned = {
            worker for name in need.avoid if name in view.instances for worker in view.instances[name].worker_ids
        }
        barred = shunned | need.excluded
        if shunned >= view.startable:
            return Wait(WaitReason.NO_WORKERS)
        if barred >= view.startable:  # without the shunned ones, somebody less choosy might still succeed
            return Wait(WaitReason.NO_SLOT if shunned & view.startable else WaitReason.ALL_FAILED)
        barred |= view.reserved
        judge = self._judge(view, need, barred, now)
        if need.model.settings.devices > 1:
            return GangSearch(judge).place()
        free = judge.free_slots(need.model.checkpoint, barred)
        room = _best_room(judge, free[0].seconds if free else math.inf)
        if room is not None:
            return room.decision
        return StartInstance(free[0], tuple(free[1 : 1 + _ALTERNATIVES])) if free else Wait(WaitReason.NO_SLOT)

    def place_on(self, view: ClusterView, model: Model, worker: Worker, now: float) -> Estimate:
        """Return what a start on a worker with a free slot is expected to take."""
        return estimate(view, worker, model.checkpoint, now, self.assumptions)

    def _judge(self, view: ClusterView, need: Need, barred: AbstractSet[str], now: float) -> Departures:
        """Who may leave for a model; busy instances only where somebody waits."""
        moves, joins = need.queued > 0 and self.migrates, need.queued > 0 and self.consolidates
        return Departures(view, need, barred, now, self.assumptions, moves, joins)


def _best_room(judge: Departures, limit_seconds: float) -> Room | None:
    """The way to a slot that costs least, if that is less than ``limit_seconds``."""
    search = RoomSearch(judge, limit_seconds)
    search.look_at_leaving()
    search.look_at_idle()
    if judge.joins and limit_seconds == math.inf:  # no slot is free
        search.look_at_light()
    if judge.need.queued and search.limit_seconds < math.inf:  # else nobody can go anywhere, or is waited for less
        search.look_at_busy()
    search.look_at_sets()
    return search.best


def instance_with_room(view: ClusterView, model: Model, avoid: frozenset[str] = frozenset()) -> Instance | None:
    """The instance for a model's next generation: one that may have one more, and is not to be avoided.

    One that is loaded if there is any, else the one that will be first. Of several it is the emptiest while slots are
    free, so that each generation runs as fast as it can. Once they are scarce it is the fullest, so that others run
    empty and make room.
    """
    best, least, sign = None, (math.inf, 0), 1 if view.slots else -1  # when it is loaded, and how empty it is
    for instance in view.instances_of(model.name):
        if instance.instance_id in avoid or not view.serves(instance):
            continue
        count = view.load(instance.instance_id)
        order = expected_at(instance) if instance.is_loading else NEVER, sign * count
        if count < model.settings.concurrency_target and order < least:
            best, least = instance, order
    return best


def _has_enough(view: ClusterView, need: Need) -> WaitReason | None:
    model = need.model
    wanted = scaling.wanted_instances(model.settings, scaling.demand(view, model, need.queued, need.avoid))
    if scaling.capacity(view, model, need.avoid) + need.coming >= wanted:
        return WaitReason.SLOT_BECOMES_FREE if need.coming else WaitReason.ENOUGH
    maximum = model.settings.max_instances
    if maximum and scaling.alive(view, model, need.avoid) + need.coming >= maximum:
        return WaitReason.SLOT_BECOMES_FREE if need.coming else WaitReason.AT_MAXIMUM
    return None

"""The policy: what to do for a model that needs room. Pure: (view, need, now) → decision."""

import enum
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import islice

from kindling.scheduler.domain import scaling
from kindling.scheduler.domain.estimate import Assumptions, Estimate, estimate
from kindling.scheduler.domain.soonest import soonest
from kindling.scheduler.domain.values import Instance, Model, Worker
from kindling.scheduler.domain.view import ClusterView

_VICTIMS = 16  # looked at, the first to be evicted first
_ALTERNATIVES = 3  # to tell of


class WaitReason(enum.Enum):
    """Why nothing is done for a model now."""

    ENOUGH = "its instances, with those that start, are enough"
    AT_MAXIMUM = "it has as many instances as it may have"
    SLOT_BECOMES_FREE = "an instance that stops makes room"
    NO_SLOT = "every slot is busy or protected"
    NO_WORKERS = "no worker is there, or none but those to be avoided"
    ALL_FAILED = "its start failed on every worker that is there"


@dataclass(frozen=True, slots=True)
class Need:
    """A model with ``queued`` requests, of which the next wants to run elsewhere than the instances in ``avoid``; its
    start has failed on the workers in ``excluded``."""

    model: Model
    queued: int = 0
    excluded: frozenset[str] = frozenset()
    avoid: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class UseInstance:
    """Run the next request on an instance that has room."""

    instance_id: str


@dataclass(frozen=True, slots=True)
class StartInstance:
    """Start an instance where it is ready soonest; ``alternatives`` are the best of the others."""

    placement: Estimate
    alternatives: tuple[Estimate, ...] = ()


@dataclass(frozen=True, slots=True)
class StopInstance:
    """Stop an idle instance, so that its slot becomes free."""

    instance_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing until something changes."""

    reason: WaitReason


Decision = UseInstance | StartInstance | StopInstance | Wait


@dataclass(frozen=True, slots=True)
class Policy:
    """The smallest startup time wins; idle instances of others make room when no slot is free."""

    assumptions: Assumptions = field(default_factory=Assumptions)

    def decide(self, view: ClusterView, need: Need, now: float) -> Decision:
        """Return what to do next for a model. Call again once the decision is entered into the view."""
        if need.queued and (roomiest := instance_with_room(view, need.model, need.avoid)):
            return UseInstance(roomiest.instance_id)
        if (enough := _has_enough(view, need)) is not None:
            return Wait(enough)
        return self.place(view, need, now)

    def place(self, view: ClusterView, need: Need, now: float) -> StartInstance | StopInstance | Wait:
        """Return how one more instance of a model comes to be, elsewhere than those to be avoided."""
        shunned = {view.instances[name].worker_id for name in need.avoid if name in view.instances}
        barred = shunned | need.excluded
        if shunned >= view.startable:
            return Wait(WaitReason.NO_WORKERS)
        if barred >= view.startable and shunned & view.startable:
            return Wait(WaitReason.NO_SLOT)  # somebody less choosy might still succeed
        return self._start(view, need.model, barred, now) or self._make_room(view, need.model, barred, now)

    def place_on(self, view: ClusterView, model: Model, worker: Worker, now: float) -> Estimate:
        """Return what a start on a worker with a free slot is expected to take."""
        return estimate(view, worker, model.checkpoint, now, self.assumptions)

    def _start(self, view: ClusterView, model: Model, barred: AbstractSet[str], now: float) -> StartInstance | None:
        """The placement with the smallest startup time among the free slots."""
        placements = soonest(view, model.checkpoint, barred, now, self.assumptions)
        return StartInstance(placements[0], tuple(placements[1 : 1 + _ALTERNATIVES])) if placements else None

    def _make_room(self, view: ClusterView, model: Model, barred: AbstractSet[str], now: float) -> StopInstance | Wait:
        """Free a slot: one that is on its way, else that of the victim in whose place the model is ready soonest."""
        if barred >= view.startable:
            return Wait(WaitReason.ALL_FAILED)
        stopping = (view.instances[name] for name in view.stopping)
        if any(_is_allowed(view, one, barred) and not view.is_busy(one) for one in stopping):
            return Wait(WaitReason.SLOT_BECOMES_FREE)

        def seconds_there(victim: Instance) -> float:
            return self.place_on(view, model, view.workers[victim.worker_id], now).seconds

        victim = min(islice(_victims(view, barred, now), _VICTIMS), key=seconds_there, default=None)
        if victim is None:
            return Wait(WaitReason.NO_SLOT)
        return StopInstance(victim.instance_id, "the slot is needed by another model")


def instance_with_room(view: ClusterView, model: Model, avoid: frozenset[str] = frozenset()) -> Instance | None:
    """The instance of a model with the fewest generations, if it may have one more and is not to be avoided."""
    best, fewest = None, model.settings.concurrency_target
    for instance in view.instances_of(model.name):
        if instance.instance_id in avoid or not view.serves(instance):
            continue
        if (count := view.load(instance.instance_id)) < fewest:
            best, fewest = instance, count
    return best


def _has_enough(view: ClusterView, need: Need) -> WaitReason | None:
    model = need.model
    demand = scaling.demand(view, model, need.queued, need.avoid)
    if scaling.capacity(view, model, need.avoid) >= scaling.wanted_instances(model.settings, demand):
        return WaitReason.ENOUGH
    maximum = model.settings.max_instances
    if maximum and scaling.alive(view, model, need.avoid) >= maximum:
        return WaitReason.AT_MAXIMUM
    return None


def _victims(view: ClusterView, barred: AbstractSet[str], now: float) -> Iterator[Instance]:
    """Those past keep-alive first, then the least recently used."""
    for instance in map(view.instances.__getitem__, view.idle.in_eviction_order(now)):
        if _is_allowed(view, instance, barred) and scaling.is_spare(view, instance):
            yield instance


def _is_allowed(view: ClusterView, instance: Instance, barred: AbstractSet[str]) -> bool:
    return instance.worker_id in view.startable and instance.worker_id not in barred

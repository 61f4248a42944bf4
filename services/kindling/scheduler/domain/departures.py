"""Who can leave a device, how soon, and what others lose by it."""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from kindling.scheduler.domain import scaling
from kindling.scheduler.domain.decisions import AwaitSlot, JoinInstance, MoveInstance, Need, StopInstance
from kindling.scheduler.domain.estimate import Assumptions, Estimate, estimate, expected_at, migration_seconds
from kindling.scheduler.domain.soonest import soonest
from kindling.scheduler.domain.values import Checkpoint, Instance, InstanceState, Worker
from kindling.scheduler.domain.victims import Victim
from kindling.scheduler.domain.view import ClusterView

_MEMORY_SECONDS = 60.0  # idle for so long, an instance is half as likely to be wanted again soon


@dataclass(slots=True)
class Clearing:
    """Who leaves devices together, by instance, and the workers ``taken`` where nobody else of them goes."""

    taken: set[str]
    victims: dict[str, Victim] = field(default_factory=dict)  # those who stop, or join others


@dataclass(frozen=True, slots=True)
class Departures:
    """Judges the instances that a model, which needs room outside of ``barred`` workers, might take the place of.

    Busy ones may go elsewhere if it ``moves`` them, to others of their model if it ``joins`` them.
    """

    view: ClusterView
    need: Need
    barred: AbstractSet[str]
    now: float
    assumptions: Assumptions
    moves: bool = True
    joins: bool = True

    # Who can leave

    def is_allowed(self, instance: Instance) -> bool:
        """Whether the model may be started where the instance is."""
        return instance.worker_id in self.view.startable and instance.worker_id not in self.barred

    def can_be_evicted(self, instance: Instance) -> bool:
        """Whether an instance can be stopped at once."""
        return self.is_allowed(instance) and scaling.is_spare(self.view, instance)

    def can_hand_over(self, instance: Instance) -> bool:
        """Whether a busy instance's generations can go on elsewhere, and the model be started there."""
        view, name = self.view, instance.instance_id
        if instance.model == self.need.model.name or not view.serves(instance) or instance.is_loading:
            return False
        is_settled = not view.migrations_of(name) and view.setbacks.blocking(name, self.now) is None
        return is_settled and view.is_busy(instance) and self.is_allowed(instance)

    def is_ending(self, instance: Instance) -> bool:
        """Whether an instance leaves already, nobody else counts on that, and not only after all its work."""
        is_leaving = instance.state is InstanceState.STOPPING or instance.instance_id in self.view.migrations
        if not is_leaving or instance.instance_id in self.view.claimed or not self.is_allowed(instance):
            return False
        return not (instance.state is InstanceState.STOPPING and self.view.is_busy(instance))

    def frees_enough(self, instance: Instance) -> bool:
        """Whether the model fits where an instance is, once that alone has left."""
        worker = self.view.workers[instance.worker_id]
        return self.need.model.device_bytes <= self.view.free_bytes(worker) + instance.device_bytes

    # What it costs

    def startup(self, worker: Worker, checkpoint: Checkpoint) -> Estimate:
        """What a start would take now."""
        return estimate(self.view, worker, checkpoint, self.now, self.assumptions)

    def free_slots(self, checkpoint: Checkpoint, barred: AbstractSet[str]) -> list[Estimate]:
        """Where a checkpoint could be started now, the soonest first; see ``soonest``."""
        return soonest(self.view, checkpoint, barred, self.now, self.assumptions)

    def leaves_in(self, instance: Instance) -> float:
        """Seconds until an instance that stops or moves is expected to be gone."""
        if (migration := self.view.migrations.get(instance.instance_id)) is None:
            return 0.0
        target = self.view.instances[migration.target_id]
        is_starting, worker = target.state is InstanceState.STARTING, self.view.workers.get(target.worker_id)
        handover = migration_seconds(self.view, instance, worker) if worker else 0.0
        return handover + (max(0.0, expected_at(target) - self.now) if is_starting else 0.0)

    def regret(self, victim: Instance) -> float:
        """Seconds that the next request loses which would have gone to a victim: a start there, as likely as it was
        used lately."""
        view = self.view
        if not view.is_current(victim) or view.idle.is_over(victim.instance_id, self.now):
            return 0.0
        idle_since, checkpoint = view.grants.idle_since(victim.instance_id), view.models[victim.model].checkpoint
        again = self.startup(view.workers[victim.worker_id], checkpoint)
        idle_seconds = 0.0 if idle_since is None else self.now - idle_since
        return (again.seconds - again.queue_seconds) * _MEMORY_SECONDS / (_MEMORY_SECONDS + idle_seconds)

    # All of a device

    def victims_on(self, worker: Worker, clearing: Clearing) -> list[Victim]:
        """Everybody on a device who leaves, or can be made to, all of them at once.

        Who moves or joins gets a worker of its own to go to, and is entered with it; of a model no more stop, or join
        others, than leave it its ``min_instances``.
        """
        found = (self._victim(one, clearing) for one in self.view.instances_on(worker.worker_id))
        return [victim for victim in found if victim is not None]

    def _victim(self, instance: Instance, clearing: Clearing) -> Victim | None:
        if (known := clearing.victims.get(instance.instance_id)) is not None:  # it takes several of the devices
            return known
        if self.is_ending(instance):
            return Victim(AwaitSlot(instance.instance_id), instance.device_bytes, self.leaves_in(instance))
        if self.is_allowed(instance) and scaling.is_spare(self.view, instance, self._besides(instance, clearing)):
            victim = Victim(stop(instance), instance.device_bytes, 0.0, self.regret(instance))
            clearing.victims[instance.instance_id] = victim
            return victim
        if self.can_hand_over(instance):
            return self.joiner(instance, clearing) or self.mover(instance, clearing)
        return None

    # Who goes on elsewhere

    def joiner(self, instance: Instance, clearing: Clearing) -> Victim | None:
        """Have a busy instance's generations go on in another of its model, whose worker is entered as taken; none if
        there is no room for all of them."""
        if (other := self._place_beside(instance, clearing.taken, self._besides(instance, clearing))) is None:
            return None
        clearing.taken.add(other.worker_id)
        handover = migration_seconds(self.view, instance, self.view.workers[other.worker_id])
        step = JoinInstance(instance.instance_id, other.instance_id, self._reason)
        victim = Victim(step, instance.device_bytes, handover, handover + self.regret(instance))
        clearing.victims[instance.instance_id] = victim
        return victim

    def mover(self, instance: Instance, clearing: Clearing) -> Victim | None:
        """Have a busy instance of one device start anew in the free slot where it is ready soonest, which is entered as
        taken; none without such a slot."""
        if not self.moves or instance.others:
            return None
        checkpoint = self.view.models[instance.model].checkpoint
        free = self.free_slots(checkpoint, clearing.taken | self.view.reserved)
        if not free:
            return None
        clearing.taken.add(free[0].worker_id)
        handover = migration_seconds(self.view, instance, self.view.workers[free[0].worker_id])
        step = MoveInstance(instance.instance_id, free[0], self._reason)
        return Victim(step, instance.device_bytes, free[0].seconds + handover, handover)

    @property
    def _reason(self) -> str:
        return f"{self.need.model.name} is ready sooner in its place"

    def _besides(self, instance: Instance, clearing: Clearing) -> int:
        """How many others of its model leave together with an instance."""
        return len(clearing.victims.keys() & self.view.of_model[instance.model])

    def _place_beside(self, instance: Instance, taken: AbstractSet[str], besides: int = 0) -> Instance | None:
        """Where a busy instance's generations all find room: the fullest such of its model's others, none on a worker
        ``taken``; nor where so many of its model leave ``besides`` that this would be one too many."""
        if not self.joins or not scaling.keeps_minimum(self.view, instance, besides):
            return None
        most = self.view.models[instance.model].settings.concurrency_target
        room = most - self.view.load(instance.instance_id)
        loads = [(self.view.load(one.instance_id), one.instance_id) for one in self._others(instance, taken)]
        fullest = max((found for found in loads if found[0] <= room), default=None)
        return self.view.instances[fullest[1]] if fullest else None

    def _others(self, instance: Instance, taken: AbstractSet[str]) -> Iterator[Instance]:
        """Those that nobody moves from or to."""
        barred = taken | set(instance.worker_ids)
        for one in self.view.instances_of(instance.model):
            is_settled = not one.is_loading and not self.view.migrations_of(one.instance_id)
            if barred.isdisjoint(one.worker_ids) and is_settled and self.view.serves(one):
                yield one


def stop(victim: Instance) -> StopInstance:
    """Have an idle instance stop."""
    return StopInstance(victim.instance_id, "the slot is needed by another model")

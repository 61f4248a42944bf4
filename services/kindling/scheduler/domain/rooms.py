"""Slots that are not free, and what it takes to have a model start there: the paper's locality by migration."""

import math
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import chain, islice

from kindling.scheduler.domain import scaling
from kindling.scheduler.domain.decisions import (
    AwaitSlot,
    Departure,
    LeaveTogether,
    MakeRoom,
    MoveInstance,
    Need,
    StopInstance,
    Wait,
    WaitReason,
)
from kindling.scheduler.domain.estimate import Assumptions, Estimate, estimate, migration_seconds
from kindling.scheduler.domain.soonest import soonest
from kindling.scheduler.domain.values import Instance, InstanceState, Model, Worker
from kindling.scheduler.domain.victims import Victim, VictimSet, cheapest
from kindling.scheduler.domain.view import ClusterView

_LOOKED_AT = 16  # idle instances, and nodes that hold some of the checkpoint
_LOOKED_THROUGH = 64  # idle ones, for as many that may be evicted
_MOVERS = 4  # busy instances that might move, and idle ones that might make room for them
_DOUBT = 2.0  # times as long: a busy instance may be given more work before it has done what it has
_MEMORY_SECONDS = 60.0  # idle for so long, an instance is half as likely to be wanted again soon


@dataclass(frozen=True, slots=True)
class Room:
    """A way to a slot: ``seconds`` until the model would be ready there, ``harm_seconds`` that others lose by it."""

    seconds: float
    harm_seconds: float
    decision: MakeRoom | Wait

    @property
    def cost_seconds(self) -> float:
        """By which ways are compared: what all who wait, or will, lose together."""
        return self.seconds + self.harm_seconds


@dataclass(slots=True)
class RoomSearch:
    """Keeps the ``best`` of the ways looked at; of those that cost less than ``limit_seconds``, the cheapest."""

    view: ClusterView
    need: Need
    barred: AbstractSet[str]
    now: float
    assumptions: Assumptions
    limit_seconds: float
    best: Room | None = None
    _estimates: dict[tuple[str, str], Estimate] = field(default_factory=dict)  # by node and kind of device
    _near: list[tuple[float, Worker]] | None = None
    _oldest: list[Instance] | None = None

    def look_at_leaving(self) -> None:
        """Slots that become free already, and that nobody else counts on."""
        view = self.view
        leaving = (
            view.instances[name] for name in chain(sorted(view.stopping), view.migrations) if name not in view.claimed
        )
        ending = (one for one in leaving if self._can_be_awaited(one) and self._suffices(one))
        for instance in islice(ending, _LOOKED_AT):
            self._consider(Room(self._leaves_in(instance) + self._there(instance), 0.0, _await(instance)))

    def look_at_idle(self) -> None:
        """Instances to evict: those on nodes where the model would be ready sooner, and the least recently used."""
        near = islice(filter(self._can_be_evicted, self._there_sooner()), _LOOKED_AT)
        for victim in chain(near, self._evictable()):
            if self._suffices(victim) and (seconds := self._there(victim)) < self.limit_seconds:
                self._consider(Room(seconds, self._regret(victim), _stop(victim)))

    def look_at_busy(self, *, migrates: bool = True) -> None:
        """Instances where the model would be ready sooner: their generations go on elsewhere, or end soon."""
        movable = (one for one in self._there_sooner() if self._can_be_moved(one) and self._suffices(one))
        for victim in islice(movable, _MOVERS):
            if migrates:
                self._look_at_moving(victim)
            self._look_at_waiting(victim)

    def look_at_sets(self, *, migrates: bool = True) -> None:
        """Instances of a worker with enough memory together: idle ones stop, busy ones go to free slots."""
        for worker in list(self._shared()):
            missing = self.need.model.checkpoint.total_bytes - self.view.free_without(worker)
            if missing == math.inf or (there := self._ready_in(worker)) >= self.limit_seconds:
                continue
            found = cheapest([*self._leavers(worker, migrates=migrates)], max(1, int(missing)))
            if found is not None:
                self._consider(Room(found.delay_seconds + there, found.harm_seconds, _together(found)))

    def _leavers(self, worker: Worker, *, migrates: bool) -> Iterator[Victim]:
        """Who could leave a worker; of a model that keeps a minimum, one that is idle."""
        view, idle = self.view, dict[str, Instance]()
        there = view.instances_on(worker.worker_id)
        for one in there:
            if self._is_leaving(one) and self._can_be_awaited(one):
                yield self._victim(_await(one), 0.0, self._leaves_in(one))
            elif self._can_be_evicted(one):
                has_minimum = view.is_current(one) and view.models[one.model].settings.min_instances
                idle.setdefault(one.model if has_minimum else one.instance_id, one)
        yield from (self._victim(_stop(one), self._regret(one)) for one in idle.values())
        if migrates:
            yield from self._movers(worker, there)

    def _movers(self, worker: Worker, there: Iterable[Instance]) -> Iterator[Victim]:
        """Busy ones, each with a worker of its own to go to."""
        taken = {worker.worker_id}
        for one in islice(filter(self._can_be_moved, there), _MOVERS):
            checkpoint = self.view.models[one.model].checkpoint
            for target in soonest(self.view, checkpoint, taken, self.now, self.assumptions)[:1]:
                taken.add(target.worker_id)
                handover = migration_seconds(self.view, one, self.view.workers[target.worker_id])
                yield self._victim(_move(one, target, self.need.model), handover, target.seconds + handover)

    def _victim(self, departure: Departure, harm_seconds: float, delay_seconds: float = 0.0) -> Victim:
        footprint = self.view.footprints.of(departure.instance_id)
        return Victim(departure, 0 if footprint == math.inf else int(footprint), harm_seconds, delay_seconds)

    def _shared(self) -> Iterator[Worker]:
        """Workers on which several instances may share a memory that is known, where the model has no place yet: those
        that somebody leaves, where it would be ready sooner, and that have idle ones; if it has no place anywhere, also
        those with some memory free."""
        view = self.view
        leaving = (view.instances[name].worker_id for name in chain(sorted(view.stopping), view.migrations))
        near, idle = (one.worker_id for _, one in self._nearest()), (one.worker_id for one in self._evictable())
        offers = chain.from_iterable(
            map(view.slots.fastest, view.slots.groups() if self.limit_seconds == math.inf else ())
        )
        some = (islice(names, _LOOKED_AT) for names in (leaving, near, idle, (one.worker.worker_id for one in offers)))
        for name in dict.fromkeys(chain.from_iterable(some)):
            if name in view.startable and name not in self.barred:
                worker = view.workers[name]
                is_shared = worker.memory_bytes and worker.slots > 1
                if is_shared and not view.has_room(name, self.need.model.checkpoint.total_bytes):
                    yield worker

    def _look_at_moving(self, victim: Instance) -> None:
        """Its generations can go to a free slot, or to one from which somebody idle has to go first."""
        checkpoint, barred = self.view.models[victim.model].checkpoint, frozenset({victim.worker_id})
        free = soonest(self.view, checkpoint, barred, self.now, self.assumptions)
        for target in free[:1]:
            self._consider_moving(victim, target, 0.0, _move(victim, target, self.need.model))
        if not free:
            others = (one for one in self._evictable() if self._makes_way(one, victim))
            for other in islice(others, _MOVERS):
                worker = self.view.workers[other.worker_id]
                target = estimate(self.view, worker, checkpoint, self.now, self.assumptions)
                self._consider_moving(victim, target, self._regret(other), _stop(other))

    def _consider_moving(self, victim: Instance, target: Estimate, regret: float, decision: MakeRoom) -> None:
        handover = migration_seconds(self.view, victim, self.view.workers[target.worker_id])
        seconds = target.seconds + handover + self._there(victim)
        self._consider(Room(seconds, handover + regret, decision))

    def _look_at_waiting(self, victim: Instance) -> None:
        """Who has waited for long waits no longer than starting elsewhere would take all in all."""
        if (left := self.view.seconds_left(victim, self.now)) is None:
            return
        seconds, waited = left * _DOUBT + self._there(victim), self.now - self.need.since
        if seconds + waited < self.limit_seconds:
            self._consider(Room(seconds, self._regret(victim), Wait(WaitReason.SOONER_HERE, self.now + left)))

    def _consider(self, room: Room) -> None:
        if room.cost_seconds < self.limit_seconds:
            self.best, self.limit_seconds = room, room.cost_seconds

    # Where the model would be ready sooner

    def _there_sooner(self) -> Iterator[Instance]:
        """Those near to which the model would be ready within the limit, the soonest first."""
        for seconds, worker in self._nearest():
            if seconds >= self.limit_seconds:
                return
            yield from self.view.instances_on(worker.worker_id)

    def _nearest(self) -> list[tuple[float, Worker]]:
        if self._near is None:
            self._near = sorted(self._nearby(), key=lambda found: (found[0], found[1].worker_id))
        return self._near

    def _nearby(self) -> Iterator[tuple[float, Worker]]:
        """Workers without a free slot that have the checkpoint parked, or whose nodes hold some of it, as far as the
        model would be ready there within the limit."""
        view, digest, needed = self.view, self.need.model.checkpoint.digest, self.need.model.checkpoint.total_bytes
        nodes = islice(view.holders.nodes(digest), _LOOKED_AT)
        there = chain.from_iterable(view.workers_on.get(node_id, ()) for node_id in nodes)
        for name in sorted({*view.holders.parked_in(digest), *there}):
            if name in view.startable and name not in self.barred and not view.has_room(name, needed):
                worker = view.workers[name]
                if (seconds := self._ready_in(worker)) < self.limit_seconds:
                    yield seconds, worker

    def _evictable(self) -> list[Instance]:
        """Idle instances that may be evicted, those first that have been idle longest."""
        if self._oldest is None:
            oldest = map(self.view.instances.__getitem__, self.view.idle.in_eviction_order(self.now))
            some = islice(oldest, _LOOKED_THROUGH)
            self._oldest = list(islice(filter(self._can_be_evicted, some), _LOOKED_AT))
        return self._oldest

    def _there(self, instance: Instance) -> float:
        return self._ready_in(self.view.workers[instance.worker_id])

    def _ready_in(self, worker: Worker) -> float:
        """Seconds until the model would be ready in a worker that nothing else is loaded for meanwhile: on a node, all
        of a kind differ only in how soon they build it, but for those that have it parked."""
        view, checkpoint = self.view, self.need.model.checkpoint
        if view.holders.has_parked(worker.worker_id, checkpoint.digest):
            return estimate(view, worker, checkpoint, self.now, self.assumptions).seconds
        kind = worker.node_id, worker.device_kind
        if kind not in self._estimates:
            self._estimates[kind] = estimate(view, worker, checkpoint, self.now, self.assumptions)
        there = self._estimates[kind]
        init_seconds = view.experience.init_seconds(checkpoint, worker, there.source) or self.assumptions.init_seconds
        return there.seconds_with(init_seconds)

    # Who can leave

    def _is_allowed(self, instance: Instance) -> bool:
        return instance.worker_id in self.view.startable and instance.worker_id not in self.barred

    def _is_leaving(self, instance: Instance) -> bool:
        """Whether an instance stops or moves, and nobody else counts on its slot."""
        view, name = self.view, instance.instance_id
        return (name in view.stopping or name in view.migrations) and name not in view.claimed

    def _can_be_awaited(self, instance: Instance) -> bool:
        return self._is_allowed(instance) and not _ends_with_its_work(self.view, instance)

    def _suffices(self, victim: Instance) -> bool:
        """Whether the model has a place once an instance is gone."""
        return self._free_without(victim) >= self.need.model.checkpoint.total_bytes

    def _makes_way(self, other: Instance, victim: Instance) -> bool:
        """Whether a busy instance has a place elsewhere once another is gone there."""
        needed_bytes = self.view.models[victim.model].checkpoint.total_bytes
        return other.worker_id != victim.worker_id and self._free_without(other) >= needed_bytes

    def _free_without(self, instance: Instance) -> float:
        return self.view.free_without(self.view.workers[instance.worker_id], instance.instance_id)

    def _can_be_evicted(self, instance: Instance) -> bool:
        return self._is_allowed(instance) and scaling.is_spare(self.view, instance)

    def _can_be_moved(self, instance: Instance) -> bool:
        view, name = self.view, instance.instance_id
        if instance.model == self.need.model.name or not view.serves(instance) or instance.is_loading:
            return False
        is_settled = not view.migrations_of(name) and view.setbacks.blocking(name, self.now) is None
        return is_settled and view.is_busy(instance)

    # What it costs

    def _leaves_in(self, instance: Instance) -> float:
        """Seconds until an instance that stops or moves is expected to be gone."""
        if (migration := self.view.migrations.get(instance.instance_id)) is None:
            return 0.0
        target = self.view.instances[migration.target_id]
        is_starting, worker = target.state is InstanceState.STARTING, self.view.workers.get(target.worker_id)
        handover = migration_seconds(self.view, instance, worker) if worker else 0.0
        return handover + (max(0.0, target.started_at + target.estimated_seconds - self.now) if is_starting else 0.0)

    def _regret(self, victim: Instance) -> float:
        """Seconds that the next request for an evicted model loses: a start there, as likely as it was used lately."""
        view = self.view
        if not view.is_current(victim) or view.idle.is_over(victim.instance_id, self.now):
            return 0.0
        idle_since, checkpoint = view.grants.idle_since(victim.instance_id), view.models[victim.model].checkpoint
        again = estimate(view, view.workers[victim.worker_id], checkpoint, self.now, self.assumptions)
        idle_seconds = 0.0 if idle_since is None else self.now - idle_since
        return (again.seconds - again.queue_seconds) * _MEMORY_SECONDS / (_MEMORY_SECONDS + idle_seconds)


def _ends_with_its_work(view: ClusterView, instance: Instance) -> bool:
    """Whether an instance stops, but only after its generations."""
    return instance.state is InstanceState.STOPPING and view.is_busy(instance)


def _together(found: VictimSet) -> MakeRoom:
    departures = tuple(victim.departure for victim in found.victims)
    return departures[0] if len(departures) == 1 else LeaveTogether(departures)


def _await(instance: Instance) -> AwaitSlot:
    return AwaitSlot(instance.instance_id)


def _stop(victim: Instance) -> StopInstance:
    return StopInstance(victim.instance_id, "the slot is needed by another model")


def _move(victim: Instance, target: Estimate, model: Model) -> MoveInstance:
    return MoveInstance(victim.instance_id, target, f"{model.name} is ready sooner in its place")

"""Slots that are not free, and what it takes to have a model start there: the paper's locality by migration."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import nsmallest
from itertools import chain, islice

from kindling.scheduler.domain.decisions import AwaitSlot, ClearDevices, MakeRoom, Need, Wait, WaitReason
from kindling.scheduler.domain.departures import Clearing, Departures, stop
from kindling.scheduler.domain.estimate import Estimate, migration_seconds
from kindling.scheduler.domain.values import Instance, Worker
from kindling.scheduler.domain.victims import Victim, VictimSet, cheapest_set
from kindling.scheduler.domain.view import ClusterView

_LOOKED_AT = 16  # idle instances, and nodes that hold some of the checkpoint
_LOOKED_THROUGH = 64  # idle ones, for as many that may be evicted
_MOVERS = 4  # busy instances that might move, and idle ones that might make room for them
_DOUBT = 2.0  # times as long: a busy instance may be given more work before it has done what it has


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

    judge: Departures
    limit_seconds: float
    best: Room | None = None
    _estimates: dict[tuple[str, str], Estimate] = field(default_factory=dict)  # by node and kind of device
    _near: list[tuple[float, Worker]] | None = None
    _oldest: list[Instance] | None = None

    @property
    def view(self) -> ClusterView:
        """Where it looks."""
        return self.judge.view

    @property
    def need(self) -> Need:
        """Whom it looks for."""
        return self.judge.need

    def look_at_leaving(self) -> None:
        """Slots that become free already, and that nobody else counts on."""
        view = self.view
        leaving = (view.instances[name] for name in chain(sorted(view.stopping), view.migrations))
        for instance in islice(filter(self.judge.is_ending, leaving), _LOOKED_AT):
            if self.judge.frees_enough(instance):
                seconds = self.judge.leaves_in(instance) + self._there(instance)
                self._consider(Room(seconds, 0.0, AwaitSlot(instance.instance_id)))

    def look_at_idle(self) -> None:
        """Instances to evict: those on nodes where the model would be ready sooner, and the least recently used."""
        near = islice(filter(self.judge.can_be_evicted, self._there_sooner()), _LOOKED_AT)
        for victim in chain(near, self._evictable()):
            if (seconds := self._there(victim)) < self.limit_seconds and self.judge.frees_enough(victim):
                self._consider(Room(seconds, self.judge.regret(victim), stop(victim)))

    def look_at_light(self) -> None:
        """Busy instances whose generations find room in another of their model: nothing has to start for them. Of each
        model the one with the fewest: where those do not fit, no others do."""
        seen = set[str]()
        for _, name in islice(self.view.light, _LOOKED_THROUGH):
            victim = self.view.instances[name]
            if victim.model not in seen and self.judge.can_hand_over(victim):
                seen.add(victim.model)
                if self.judge.frees_enough(victim):
                    self._look_at_joining(victim)

    def _look_at_joining(self, victim: Instance) -> None:
        if (joiner := self.judge.joiner(victim, Clearing(set(self.view.reserved)))) is not None:
            self._consider_victim(victim, joiner)

    def look_at_busy(self) -> None:
        """Instances where the model would be ready sooner: their generations go on elsewhere, or end soon."""
        alone = (victim for victim in self._there_sooner() if self.judge.can_hand_over(victim))
        for victim in islice(filter(self.judge.frees_enough, alone), _MOVERS):
            self._look_at_joining(victim)
            if self.judge.moves and not victim.others:
                self._look_at_moving(victim)
            self._look_at_waiting(victim)

    def look_at_sets(self) -> None:
        """Devices from which it may take more than one to leave: the cheapest set of them."""
        for worker in self._shared():
            self._look_at_set(worker)
        if self.judge.moves and self.limit_seconds == math.inf and self.view.slots:
            # What is free is too small for it, but not for those who might move there.
            for name in nsmallest(_LOOKED_AT, filter(self._is_closed, self.view.startable)):
                self._look_at_set(self.view.workers[name])

    def _look_at_set(self, worker: Worker) -> None:
        if (there := self._ready_in(worker)) < self.limit_seconds:
            victims = self.judge.victims_on(worker, Clearing({worker.worker_id}))
            short_bytes = self.need.model.device_bytes - self.view.free_bytes(worker)
            if (chosen := cheapest_set(victims, short_bytes)) is not None:
                self._consider(_cleared(worker, there, chosen))

    def _look_at_moving(self, victim: Instance) -> None:
        """Its generations can go to a free slot, or to one from which somebody idle has to go first."""
        if (mover := self.judge.mover(victim, Clearing({victim.worker_id}))) is not None:
            self._consider_victim(victim, mover)
            return
        others = (one for one in self._evictable() if self._can_be_replaced_by(victim, one))
        for other in islice(others, _MOVERS):
            self._look_at_replacing(victim, other)

    def _look_at_replacing(self, victim: Instance, other: Instance) -> None:
        worker = self.view.workers[other.worker_id]
        target = self.judge.startup(worker, self.view.models[victim.model].checkpoint)
        handover = migration_seconds(self.view, victim, worker)
        seconds = target.seconds + handover + self._there(victim)
        self._consider(Room(seconds, handover + self.judge.regret(other), stop(other)))

    def _can_be_replaced_by(self, victim: Instance, other: Instance) -> bool:
        """Whether a busy instance fits elsewhere once an idle one has left there."""
        worker = self.view.workers[other.worker_id]
        is_elsewhere = other.worker_id != victim.worker_id
        return is_elsewhere and victim.device_bytes <= self.view.free_bytes(worker) + other.device_bytes

    def _look_at_waiting(self, victim: Instance) -> None:
        """Who has waited for long waits no longer than starting elsewhere would take all in all."""
        if (left := self.view.seconds_left(victim, self.judge.now)) is None:
            return
        seconds, waited = left * _DOUBT + self._there(victim), self.judge.now - self.need.since
        if seconds + waited < self.limit_seconds:
            self._consider(
                Room(seconds, self.judge.regret(victim), Wait(WaitReason.SOONER_HERE, self.judge.now + left))
            )

    def _consider_victim(self, instance: Instance, victim: Victim) -> None:
        self._consider(Room(victim.seconds + self._there(instance), victim.harm_seconds, victim.step))

    def _consider(self, room: Room) -> None:
        if room.cost_seconds < self.limit_seconds:
            self.best, self.limit_seconds = room, room.cost_seconds

    # Where the model would be ready sooner

    def _there_sooner(self) -> Iterator[Instance]:
        """Those near to which the model would be ready within the limit, the soonest first."""
        if self._near is None:
            self._near = sorted(self._nearby(), key=lambda found: (found[0], found[1].worker_id))
        for seconds, worker in self._near:
            if seconds >= self.limit_seconds:
                return
            yield from self.view.instances_on(worker.worker_id)

    def _nearby(self) -> Iterator[tuple[float, Worker]]:
        """Workers without room that have the checkpoint parked, or whose nodes hold some of it, as far as the
        model would be ready there within the limit."""
        view, digest = self.view, self.need.model.checkpoint.digest
        nodes = islice(view.holders.nodes(digest), _LOOKED_AT)
        there = chain.from_iterable(view.workers_on.get(node_id, ()) for node_id in nodes)
        for name in sorted({*view.holders.parked_in(digest), *there}):
            if name in view.startable and self._is_closed(name):
                worker = view.workers[name]
                if (seconds := self._ready_in(worker)) < self.limit_seconds:
                    yield seconds, worker

    def _evictable(self) -> list[Instance]:
        """Idle instances that may be evicted, those first that have been idle longest."""
        if self._oldest is None:
            oldest = map(self.view.instances.__getitem__, self.view.idle.in_eviction_order(self.judge.now))
            some = islice(oldest, _LOOKED_THROUGH)
            self._oldest = list(islice(filter(self.judge.can_be_evicted, some), _LOOKED_AT))
        return self._oldest

    def _shared(self) -> Iterator[Worker]:
        """Workers without room whose device several instances can share: where the model would be ready sooner, then
        those with somebody who leaves or has long been idle."""
        view = self.view
        if not view.sizes.shared:
            return
        leaving = (view.instances[name] for name in islice(chain(sorted(view.stopping), view.migrations), _LOOKED_AT))
        there = chain(self._there_sooner(), filter(self.judge.is_ending, leaving), self._evictable())
        for name in dict.fromkeys(one.worker_id for one in there):
            if name in view.sizes.shared and name in view.startable and self._is_closed(name):
                yield view.workers[name]

    def _is_closed(self, worker_id: str) -> bool:
        """Whether the model may be started in a worker, and there is no room."""
        has_room = self.view.slots.has_room(worker_id, self.need.model.device_bytes)
        return worker_id not in self.judge.barred and not has_room

    def _there(self, instance: Instance) -> float:
        return self._ready_in(self.view.workers[instance.worker_id])

    def _ready_in(self, worker: Worker) -> float:
        """Seconds until the model would be ready in a worker that nothing else is loaded for meanwhile: on a node, all
        of a kind differ only in how soon they build it, but for those that have it parked."""
        view, checkpoint = self.view, self.need.model.checkpoint
        if view.holders.has_parked(worker.worker_id, checkpoint.digest):
            return self.judge.startup(worker, checkpoint).seconds
        kind = worker.node_id, worker.device_kind
        if kind not in self._estimates:
            self._estimates[kind] = self.judge.startup(worker, checkpoint)
        there = self._estimates[kind]
        init_seconds = view.experience.init_seconds(checkpoint, worker, there.source)
        return there.seconds_with(init_seconds or self.judge.assumptions.init_seconds)


def _cleared(worker: Worker, there: float, chosen: VictimSet) -> Room:
    """Ready once they have left, one after the other."""
    seconds = there + sum(victim.seconds for victim in chosen.victims)
    harm_seconds = sum(victim.harm_seconds for victim in chosen.victims)
    steps = tuple(victim.step for victim in chosen.victims)
    return Room(seconds, harm_seconds, ClearDevices(steps, (worker.worker_id,)) if len(steps) > 1 else steps[0])

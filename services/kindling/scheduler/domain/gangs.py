"""Where a model goes that takes several devices: as many of one node, all of a kind."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice

from kindling.scheduler.domain.decisions import ClearDevices, Need, StartInstance, Wait, WaitReason
from kindling.scheduler.domain.departures import Clearing, Departures
from kindling.scheduler.domain.estimate import Estimate
from kindling.scheduler.domain.values import Worker
from kindling.scheduler.domain.victims import VictimSet, cheapest_devices, cheapest_set
from kindling.scheduler.domain.view import ClusterView

_LOOKED_AT = 16  # nodes of each sort
_LOOKED_THROUGH = 64  # instances, for as many nodes


@dataclass(frozen=True, slots=True)
class _Way:
    """Devices for a model, and who has to leave them before it is ready there."""

    placement: Estimate
    steps: VictimSet

    @property
    def cost_seconds(self) -> float:
        return self.placement.seconds + self.steps.cost_seconds


@dataclass(frozen=True, slots=True)
class GangSearch:
    """Looks for the devices on which a model is ready soonest, with what others lose by it."""

    judge: Departures

    @property
    def view(self) -> ClusterView:
        """Where it looks."""
        return self.judge.view

    @property
    def need(self) -> Need:
        """Whom it looks for."""
        return self.judge.need

    def place(self) -> StartInstance | ClearDevices | Wait:
        """Return how an instance comes to its devices: all of them are free, or some have to be cleared."""
        ways = chain.from_iterable(map(self._ways_on, dict.fromkeys(self._nodes())))
        best = min(ways, key=lambda way: (way.cost_seconds, way.placement.worker_id), default=None)
        if best is None:
            return Wait(WaitReason.NO_SLOT)
        if not best.steps.victims:
            return StartInstance(best.placement)
        steps = tuple(victim.step for victim in best.steps.victims)
        return ClearDevices(steps, (best.placement.worker_id, *best.placement.others))

    # Which nodes

    def _nodes(self) -> Iterator[str]:
        """Nodes that hold some of the checkpoint, that have free slots, and from which somebody leaves or might."""
        view, digest = self.view, self.need.model.checkpoint.digest
        yield from islice(view.holders.nodes(digest), _LOOKED_AT)
        yield from islice(view.loads.nodes_of(digest), _LOOKED_AT)
        yield from self._with_free_slots(self.need.model.settings.devices)
        yield from self._with_free_slots(1)
        leaving = islice(chain(sorted(view.stopping), view.migrations), _LOOKED_THROUGH)
        idle = islice(view.idle.in_eviction_order(self.judge.now), _LOOKED_THROUGH)
        light = (name for _, name in islice(view.light, _LOOKED_THROUGH))
        for names in (leaving, idle, light):
            yield from islice(dict.fromkeys(view.instances[name].node_id for name in names), _LOOKED_AT)

    def _with_free_slots(self, least: int) -> Iterator[str]:
        """Nodes with so many free slots at least, those reached fastest first."""
        offers = chain.from_iterable(map(self.view.slots.fastest, self.view.slots.groups()))
        nodes = (offer.worker.node_id for offer in offers)
        return islice((name for name in _once(nodes) if len(self.view.slots.on_node(name)) >= least), _LOOKED_AT)

    # Which of their devices

    def _ways_on(self, node_id: str) -> Iterator[_Way]:
        by_kind = defaultdict[str, list[Worker]](list)
        for name in sorted(self.view.workers_on.get(node_id, ())):
            if name in self.view.startable and name not in self.judge.barred:
                by_kind[self.view.workers[name].device_kind].append(self.view.workers[name])
        for workers in by_kind.values():
            if len(workers) >= self.need.model.settings.devices and (way := self._way(node_id, workers)) is not None:
                yield way

    def _way(self, node_id: str, workers: list[Worker]) -> _Way | None:
        clearing = Clearing(set(self.view.workers_on[node_id]))  # nobody moves to where others make room
        sets = {worker.worker_id: self._victims(worker, clearing) for worker in workers}
        chosen = cheapest_devices(sets, self.need.model.settings.devices)
        if chosen is None:
            return None
        steps = VictimSet()
        victims = chain.from_iterable(one.victims for one in chosen.values())
        for victim in {victim.step.instance_id: victim for victim in victims}.values():  # some take several devices
            steps = steps.joined_by(victim)
        return _Way(self._placement(sorted(chosen)), steps)

    def _victims(self, worker: Worker, clearing: Clearing) -> VictimSet | None:
        needed_bytes = self.need.model.device_bytes
        if self.view.slots.has_room(worker.worker_id, needed_bytes):
            return VictimSet()
        victims = self.judge.victims_on(worker, clearing)
        return cheapest_set(victims, needed_bytes - self.view.free_bytes(worker))

    def _placement(self, names: list[str]) -> Estimate:
        """The slowest device's startup time is that of all: each is taken to read the whole checkpoint."""
        checkpoint = self.need.model.checkpoint
        estimates = (self.judge.startup(self.view.workers[name], checkpoint) for name in names)
        slowest = max(estimates, key=lambda one: one.seconds)
        return replace(slowest, worker_id=names[0], others=tuple(names[1:]))


def _once(names: Iterable[str]) -> Iterator[str]:
    """Each name where it comes first."""
    seen: set[str] = set()
    for name in names:
        if name not in seen:
            seen.add(name)
            yield name

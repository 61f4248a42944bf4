"""Where running instances go: on an operator's word, or because their node is drained. Pure, as the policy is."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from kindling.platform.errors import KindlingError
from kindling.scheduler.domain import scaling, setbacks
from kindling.scheduler.domain.decisions import (
    ClearDevices,
    JoinInstance,
    MakeRoom,
    MoveInstance,
    Need,
    StartInstance,
    StopInstance,
    Wait,
    WaitReason,
)
from kindling.scheduler.domain.estimate import Estimate, generation_tokens
from kindling.scheduler.domain.plans import Move, Plan, Start, Stop
from kindling.scheduler.domain.policy import Policy
from kindling.scheduler.domain.troubles import Troubles
from kindling.scheduler.domain.unfit import unfit
from kindling.scheduler.domain.values import Instance, InstanceState, Migration, Model, Worker
from kindling.scheduler.domain.view import ClusterView

_DRAINED = "its node is drained"
_NO_PLACE = frozenset({WaitReason.NO_SLOT, WaitReason.NO_WORKERS, WaitReason.ALL_FAILED})
NewInstance = Callable[[Model, Estimate, float, str | None], Instance]  # the last is whose device it is
StopInstances = Callable[[str, str, float], Stop]


class Relocation:
    """Decides migrations and enters them into the view; what failed is tried again after a pause, longer each time."""

    def __init__(
        self, view: ClusterView, policy: Policy, troubles: Troubles, new_instance: NewInstance, stop: StopInstances
    ) -> None:
        self._view = view
        self._policy = policy
        self._troubles = troubles
        self._new_instance = new_instance
        self._stop = stop
        self._obstacles: dict[str, str] = {}  # by source

    # On an operator's word

    def to_worker(self, model: Model, worker: Worker, sources: Sequence[Instance], now: float) -> list[Move]:
        """Move instances of a model to the one on a worker, which is started if need be.

        Raises WORKER_UNREACHABLE, NODE_DRAINED, NO_FREE_SLOT, NO_FREE_MEMORY or MIGRATION_UNDERWAY.
        """
        target = self._instance_there(model, worker)
        for instance in (*sources, *([target] if target else [])):
            self._check_stays(instance, as_target=instance is target)
        tenant = next((source.tenant for source in sources), None)
        start = None if target else self._start_there(model, worker, tenant, now)
        target = target or (start.instance if start else None)
        assert target is not None
        return [
            self._move(source, target, f"asked to run on {worker.worker_id}", None if number else start)
            for number, source in enumerate(sources)
        ]

    def _check_stays(self, instance: Instance, *, as_target: bool) -> None:
        """Several may go to one target, but none may be a source twice, or a source and a target."""
        busy = self._view.migrations_of(instance.instance_id)
        if busy and not (as_target and all(one.target_id == instance.instance_id for one in busy)):
            raise setbacks.migration_underway(instance)

    def _instance_there(self, model: Model, worker: Worker) -> Instance | None:
        if worker.node_id in self._view.drained:
            raise setbacks.node_drained(worker.node_id)
        if not self._view.can_start(worker):
            raise setbacks.worker_unreachable(worker)
        there = (one for one in self._view.instances_on(worker.worker_id) if one.model == model.name)
        usable = (one for one in there if self._view.serves(one) or scaling.will_serve(self._view, one))
        return next(usable, None)

    def _start_there(self, model: Model, worker: Worker, tenant: str | None, now: float) -> Start:
        if not self._view.free_slots(worker):
            raise setbacks.no_free_slot(worker, [one.model for one in self._view.instances_on(worker.worker_id)])
        if (free_bytes := self._view.free_bytes(worker)) < model.device_bytes:
            raise setbacks.no_free_memory(worker, model, int(free_bytes))
        placement = self._policy.place_on(self._view, model, worker, now)
        return Start(self._new_instance(model, placement, now, tenant), placement, (), None)

    def _move(self, source: Instance, target: Instance, reason: str, start: Start | None = None) -> Move:
        migration = Migration(source.instance_id, target.instance_id)
        self._view.put_migration(migration)
        return Move(migration, reason, start)

    # Because another model is ready sooner in its place

    def make_way(self, decision: MoveInstance, now: float) -> Move:
        """Have an instance's generations go on elsewhere, as the policy decided."""
        source = self._view.instances[decision.instance_id]
        target = self._new_instance(self._view.models[source.model], decision.target, now, source.tenant)
        return self._move(source, target, decision.reason, Start(target, decision.target, (), None))

    def join(self, decision: JoinInstance) -> Move:
        """Have an instance's generations go on in another that runs already, as the policy decided."""
        source, target = (self._view.instances[name] for name in (decision.instance_id, decision.target_id))
        return self._move(source, target, decision.reason)

    # Because a node is drained

    def clear_drained(self, plan: Plan, now: float) -> None:
        """Have what is on drained nodes leave them: what starts or is idle stops, the rest moves as soon as it can."""
        self._obstacles = {}
        for instance in [
            one for node_id in sorted(self._view.drained) for one in self._view.instances_on_node(node_id)
        ]:
            if instance.state is InstanceState.STOPPING or self._view.migrations_of(instance.instance_id):
                continue
            leaving = self._away(instance, plan, now)
            if isinstance(leaving, Stop):
                plan.stops.append(leaving)
            elif leaving is not None:
                plan.moves.append(leaving)

    @property
    def obstacles(self) -> Mapping[str, str]:
        """Why instances on drained nodes stay for now, by their ids."""
        return self._obstacles

    def _away(self, instance: Instance, plan: Plan, now: float) -> Move | Stop | None:
        """What brings an instance away; none while it has to wait, for instance for those who leave its place."""
        name = instance.instance_id
        if instance.state is InstanceState.STARTING or not self._view.is_busy(instance):
            return self._stop(name, _DRAINED, now)
        if instance.others:
            self._obstacles[name] = setbacks.stays_on_its_devices(instance)
            return None
        if (setback := self._view.setbacks.blocking(name, now)) is not None:
            self._obstacles[name] = f"moving {name} failed and is tried again: {setback.error.message}"
            return None
        return self._make_place(instance, self._view.models[instance.model], plan, now)

    def _make_place(self, instance: Instance, model: Model, plan: Plan, now: float) -> Move | Stop | None:
        other = self._elsewhere(instance, model)
        if other is not None and self._has_room(other, instance, model):
            return self._move(instance, other, _DRAINED)
        decision = self._place(instance, model, now)
        if isinstance(decision, StartInstance):
            placement = decision.placement
            target = self._new_instance(model, placement, now, instance.tenant)
            start = Start(target, placement, decision.alternatives, None)
            return self._move(instance, start.instance, _DRAINED, start)
        if not isinstance(decision, Wait):
            plan.stops += self._clear(decision, now)
            return None
        if decision.reason not in _NO_PLACE:
            return None
        if other is not None:  # more than it should have, but they do go on
            return self._move(instance, other, _DRAINED)
        self._obstacles[instance.instance_id] = setbacks.no_place(instance, decision.reason.value)
        return None

    def _clear(self, decision: MakeRoom, now: float) -> Iterator[Stop]:
        """Have those stop who are idle, all at once. Nobody else moves for one that moves itself."""
        steps = decision.steps if isinstance(decision, ClearDevices) else (decision,)
        self._view.reserved.update(decision.worker_ids if isinstance(decision, ClearDevices) else ())
        for step in steps:
            if not isinstance(step, MoveInstance | JoinInstance):
                self._view.claim(step.instance_id)
            if isinstance(step, StopInstance):
                yield self._stop(step.instance_id, step.reason, now)

    def _place(self, instance: Instance, model: Model, now: float) -> StartInstance | MakeRoom | Wait:
        """Where a start would be soonest; a model whose starts fail everywhere has to wait for a while."""
        if self._troubles.blocking(model.name, now) is not None:
            return Wait(WaitReason.ALL_FAILED)
        need = Need(
            model, excluded=unfit(self._view, self._troubles, model, now), avoid=frozenset({instance.instance_id})
        )
        decision = self._policy.place(self._view, need, now)
        if decision == Wait(WaitReason.ALL_FAILED) and self._troubles.of(model.name):
            self._troubles.give_up(model.name, now)
        return decision

    def _elsewhere(self, instance: Instance, model: Model) -> Instance | None:
        """The best other instance of the same model: one with room, one that serves already, the one with the fewest
        generations, and of several the one where they have the fewest tokens."""
        others = (one for one in self._view.instances_of(model.name) if one.instance_id != instance.instance_id)
        staying = (one for one in others if self._stays(one))
        return min(staying, key=lambda one: self._aptness(one, instance, model), default=None)

    def _stays(self, other: Instance) -> bool:
        is_there = self._view.serves(other) or scaling.will_serve(self._view, other)
        return is_there and other.instance_id not in self._view.migrations

    def _aptness(self, other: Instance, instance: Instance, model: Model) -> tuple[bool, bool, int, float, str]:
        has_room, load = self._has_room(other, instance, model), self._view.load(other.instance_id)
        tokens = generation_tokens(self._view, other)
        return not has_room, not self._view.serves(other), load, tokens, other.instance_id

    def _has_room(self, other: Instance, instance: Instance, model: Model) -> bool:
        together = self._view.load(other.instance_id) + self._view.load(instance.instance_id)
        return together <= model.settings.concurrency_target

    # What came of it

    def failed(self, instance: Instance, error: KindlingError, now: float) -> None:
        """A migration failed; its source serves on, and is tried again later if its node is drained."""
        self._view.setbacks.keep(self._view.instances)
        self._view.setbacks.note(instance.instance_id, instance.worker_id, error, now)
        self._view.setbacks.give_up(instance.instance_id, now)

    def next_retry(self, now: float) -> float | None:
        """When a migration that failed is to be tried again next."""
        return self._view.setbacks.next_retry(now)

    def obstacle(self, node_id: str) -> str:
        """Why what is left on a drained node does not move; empty while it moves."""
        return "; ".join(filter(None, (self._obstacle(one) for one in self._view.instances_on_node(node_id))))

    def _obstacle(self, instance: Instance) -> str:
        if instance.state is InstanceState.STOPPING and self._view.is_busy(instance):
            return setbacks.ends_where_it_is(instance, self._view.grants.in_flight(instance.instance_id))
        return self._obstacles.get(instance.instance_id, "")

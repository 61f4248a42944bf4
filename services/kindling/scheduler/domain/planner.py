"""The scheduler without its surroundings: events in, plans out, time as a number. A simulator drives it as it is."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from kindling.platform.errors import KindlingError
from kindling.scheduler.domain import scaling
from kindling.scheduler.domain.admission import Admission
from kindling.scheduler.domain.choosy import Choosy
from kindling.scheduler.domain.contest import Bid, Contest
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
from kindling.scheduler.domain.late_binding import better_until
from kindling.scheduler.domain.lines import WaitingLines
from kindling.scheduler.domain.new_instances import NewInstances
from kindling.scheduler.domain.outcomes import Outcomes
from kindling.scheduler.domain.patience import Patience
from kindling.scheduler.domain.plans import Grant, Limits, Plan, Refusal, Start, Stop
from kindling.scheduler.domain.policy import Policy, instance_with_room
from kindling.scheduler.domain.refusals import no_device_large_enough, queue_full, retold, unknown_model
from kindling.scheduler.domain.relocation import Relocation
from kindling.scheduler.domain.troubles import Troubles
from kindling.scheduler.domain.unfit import unfit
from kindling.scheduler.domain.values import NEVER, Instance, InstanceState, Model, Request
from kindling.scheduler.domain.view import ClusterView

_EXCHANGED = "its tenant may have no more devices, and needs this one for another model"


class Planner:
    """Holds the view and the waiting lines; :meth:`plan` brings them together."""

    def __init__(self, policy: Policy, limits: Limits, new_suffix: Callable[[], str]) -> None:
        self.view = ClusterView(limits.grant_ttl_seconds)
        self.lines = WaitingLines(self.view.grants.in_flight_of, self.view.quotas)
        self.troubles = Troubles(limits.max_start_attempts)
        self.outcomes = Outcomes(self.view, self.troubles)
        self.limits = limits
        self._policy = policy
        self._new = NewInstances(self.view, new_suffix)
        self.relocation = Relocation(self.view, policy, self.troubles, self._new.enter, self.stop)
        self._patience = Patience(self.view, self.lines, limits)
        self._admission = Admission(self.view, self.lines)
        self._choosy = Choosy(self.view, self.lines, limits.avoid_seconds)
        self._looks_again_at: float | None = None

    # Requests

    def try_grant(self, request: Request, now: float) -> Grant | None:
        """Grant at once if an instance has room and nobody waits; the warm path.

        Raises NotFoundError for an unknown model.
        """
        model = self._model(request.model)
        somebody_waits = self.lines.ready(model.name)  # but not for the place that this generation may give up now
        if (earlier := self._earlier_grant(request)) is not None:
            return Grant(request, earlier)
        if somebody_waits or not self._admission.may_run(request.tenant):
            return None
        instance = instance_with_room(self.view, model, request.avoid)
        if instance is None or better_until(self.view, request, instance, 1, now) is not None:
            return None
        self.view.grants.grant(request.generation_id, instance.instance_id, now, request.tenant)
        return Grant(request, instance)

    def hold(self, request: Request, now: float) -> int:
        """Put a request in line; returns how many are ahead. One that had a place before is not turned away.

        Raises TENANT_QUOTA_EXCEEDED, QUEUE_FULL, NO_DEVICE_LARGE_ENOUGH, or the error with which the model's start just
        failed.
        """
        model = self._model(request.model)
        trouble = self.troubles.blocking(model.name, now)
        if trouble is not None and not scaling.capacity(self.view, model):
            raise retold(trouble.error)
        if not self.view.sizes.can_hold(model.device_bytes, model.settings.devices):
            raise no_device_large_enough(model, self.view.sizes)
        if not request.avoid and self.lines.is_full(request, model.settings.max_queued_requests):
            raise queue_full(model)
        return self._admission.enter(request, now)

    def release(self, generation_id: str, now: float) -> None:
        """Take a grant back; unknown ones are ignored."""
        self.view.grants.release(generation_id, now)

    def start_failed(self, instance_id: str, error: KindlingError, now: float) -> list[Refusal]:
        """A start failed, or the load after it; returns who is refused as there is no point in trying again."""
        model = self.outcomes.failed(instance_id, error, now)
        return self._give_up(model, now) if model else []

    # Planning

    def plan(self, now: float) -> Plan:
        """Return what to do now. Calling again at once returns nothing new to do; only why something stays on a drained
        node may be news once more, as it is judged before others make room."""
        plan, obstacles = Plan(), self.relocation.obstacles
        self._looks_again_at = None
        self._admission.knows_all = True
        self.view.devices.pass_time(now)
        self.view.forget_claims()
        self._patience.watch_workers(now)
        plan.has_news = bool(self.view.grants.expire(now))
        plan.refusals += self._refuse(self._patience.overdue(now))
        self._stop_surplus(plan, now)
        self.relocation.clear_drained(plan, now)
        in_order = list(self._models_in_order())
        for model in in_order:  # all of them before any needs room, lest somebody awaited be made to leave
            self._serve(model, plan, now)
        self._extend_all(in_order, plan, now)
        if plan.starts:
            self.relocation.clear_drained(plan, now)  # again: what starts by now may be a place to go to
        plan.has_news |= obstacles != self.relocation.obstacles
        self._stop_surplus(plan, now)  # again: those who might have used an idle one have a place elsewhere by now
        return plan

    def next_deadline(self, now: float) -> float | None:
        """When :meth:`plan` has something to do next, even if nothing happens before."""
        return min((deadline for deadline in self._deadlines(now) if deadline is not None), default=None)

    def lost_workers(self, now: float) -> list[str]:
        """Workers with instances or a watch that have not answered for too long."""
        return [name for name in sorted(self.view.unheard) if (end := self._lost_at(name)) is not None and end <= now]

    def _serve(self, model: Model, plan: Plan, now: float) -> None:
        """Grant to who waits what there is."""
        while True:
            request, avoid = self._choosy.next_in_line(model, now)
            instance = self._best_for(request, model, avoid) if request else None
            if request is None or instance is None:
                return
            waiting = self.lines.ready(model.name)
            if (until := better_until(self.view, request, instance, waiting, now)) is not None:
                self._look_again(until)
                return
            plan.grants.append(self._grant(request, instance, now))

    def _best_for(self, request: Request, model: Model, avoid: frozenset[str]) -> Instance | None:
        """One that it would rather have if there is one, else one that it does not avoid any more."""
        return instance_with_room(self.view, model, request.avoid) or instance_with_room(self.view, model, avoid)

    def _extend_all(self, models: Iterable[Model], plan: Plan, now: float) -> None:
        """Have instances start as they are wanted. Where one model finds no slot at all, no other does that may take
        the same ones."""
        contest = Contest(self.view, self.lines, models)
        full_bytes = math.inf  # of a device, from which on nothing is to be found
        while (bid := contest.next()) is not None:
            need = self._need(bid, now)
            is_picky = bool(need.avoid or need.excluded or bid.model.settings.devices > 1)
            if bid.model.device_bytes < full_bytes or is_picky:
                wait = self._extend(need, bid, contest, plan, now)
                if wait == Wait(WaitReason.NO_SLOT) and not is_picky:
                    full_bytes = min(full_bytes, bid.model.device_bytes if self.view.sizes.shared else 0)

    def _extend(self, need: Need, bid: Bid, contest: Contest, plan: Plan, now: float) -> Wait | None:
        """Do the next thing by which a model comes to the instances that who waits, and its minimum, want; none if
        something was done."""
        is_blocked = self.troubles.blocking(need.model.name, now) is not None
        decision = self._policy.decide(self.view, need, now)
        if isinstance(decision, Wait):
            if decision.until is not None:
                self._look_again(decision.until)
            if decision.reason is WaitReason.ALL_FAILED and not is_blocked and self.troubles.of(need.model.name):
                plan.refusals += self._give_up(need.model, now)
            return decision
        if is_blocked:
            return Wait(WaitReason.PAUSED)
        if contest.must_exchange(bid):
            if (own := contest.exchange(bid)) is not None:
                plan.stops.append(self.stop(own.instance_id, _EXCHANGED, now))
        elif isinstance(decision, StartInstance):
            plan.starts.append(self._start(need.model, decision, bid.request, now))
        else:
            self._make_room(decision, plan, now)
            contest.promise(bid)
        contest.again(need.model)
        return None

    def _look_again(self, at: float) -> None:
        self._looks_again_at = min(self._looks_again_at or at, at)

    def _need(self, bid: Bid, now: float) -> Need:
        model, request = bid.model, bid.request
        avoid = self._choosy.avoided(request, model, now) if request else frozenset[str]()
        since = request.arrived_at if request else NEVER
        return Need(model, bid.queued, unfit(self.view, self.troubles, model, now), avoid, bid.coming, since)

    def _make_room(self, decision: MakeRoom, plan: Plan, now: float) -> None:
        """Have instances leave that do not yet; the rest of the plan does not count on their slots."""
        if isinstance(decision, ClearDevices):
            self.view.reserved.update(decision.worker_ids)
            for step in decision.steps:
                self._make_room(step, plan, now)
            return
        self.view.claim(decision.instance_id)
        if isinstance(decision, StopInstance):
            plan.stops.append(self._stop(decision, now))
        elif isinstance(decision, MoveInstance):
            plan.moves.append(self.relocation.make_way(decision, now))
        elif isinstance(decision, JoinInstance):
            plan.moves.append(self.relocation.join(decision))

    def _grant(self, request: Request, instance: Instance, now: float) -> Grant:
        self.lines.serve(request)
        self.view.grants.grant(request.generation_id, instance.instance_id, now, request.tenant)
        return Grant(request, instance, cold=instance.ready_at >= request.arrived_at)

    def _start(self, model: Model, decision: StartInstance, request: Request | None, now: float) -> Start:
        instance = self._new.enter(model, decision.placement, now, request.tenant if request else None)
        return Start(instance, decision.placement, decision.alternatives, request)

    def _stop(self, decision: StopInstance, now: float) -> Stop:
        instance = replace(self.view.instances[decision.instance_id], state=InstanceState.STOPPING)
        self.view.put_instance(instance, now)
        return Stop(instance, decision.reason)

    def stop(self, instance_id: str, reason: str, now: float) -> Stop:
        """Have an instance stop for a reason from outside, for instance an operator's wish."""
        return self._stop(StopInstance(instance_id, reason), now)

    def _stop_surplus(self, plan: Plan, now: float) -> None:
        for instance in scaling.perhaps_surplus(self.view, now):
            reason = scaling.surplus(self.view, instance, now)
            if reason is not None and not self._is_wanted(instance):
                plan.stops.append(self.stop(instance.instance_id, reason, now))

    def _is_wanted(self, instance: Instance) -> bool:
        """Whether somebody waits for an idle instance that still serves; it will be busy in a moment."""
        return bool(self.lines.ready(instance.model)) and self.view.serves(instance)

    def _models_in_order(self) -> Iterator[Model]:
        """Models that somebody waits for, the longest wait first; then those that keep a minimum running."""
        waiting = [name for name in self.lines.models() if name in self.view.models]
        yield from (self.view.models[name] for name in waiting)
        yield from (self.view.models[name] for name in sorted(self.view.minimal.difference(waiting)))

    def _refuse(self, overdue: Iterator[tuple[Request, KindlingError]]) -> list[Refusal]:
        refusals = [Refusal(request, error) for request, error in overdue]
        for refusal in refusals:
            self.lines.leave(refusal.request)
        return refusals

    def _give_up(self, model: Model, now: float) -> list[Refusal]:
        """Pause the model's starts; those who wait are refused unless an instance will serve them in turn."""
        error = self.troubles.give_up(model.name, now)
        if scaling.capacity(self.view, model):
            return []
        return self._refuse(iter([(request, retold(error)) for request in self.lines.line(model.name)]))

    def _deadlines(self, now: float) -> Iterator[float | None]:
        yield self.view.grants.next_expiry()
        yield scaling.next_keep_alive(self.view, now)
        yield self.troubles.next_retry(now)
        yield self.relocation.next_retry(now)
        yield self._looks_again_at
        for name in self.view.unheard:
            yield self._lost_at(name)
        yield from self._patience.deadlines(now)

    def _lost_at(self, worker_id: str) -> float | None:
        link = self.view.link(worker_id)
        return None if link.connected else link.since + self.limits.worker_lost_seconds

    def _earlier_grant(self, request: Request) -> Instance | None:
        """The instance of a grant that the generation has already, if it can still be used."""
        instance_id = self.view.grants.instance_of(request.generation_id)
        if instance_id is None:
            return None
        instance = self.view.instances[instance_id]
        if self.view.serves(instance) and instance_id not in request.avoid:
            return instance
        self.view.grants.leave(request.generation_id, request.arrived_at)
        return None

    def _model(self, name: str) -> Model:
        if (model := self.view.models.get(name)) is None:
            raise unknown_model(name)
        return model

"""Whatever happens, no tenant has more than it may, nothing is left undone that may be done, and nobody starves."""

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kindling.platform.errors import ResourceExhaustedError
from kindling.scheduler.domain.plans import Plan
from kindling.scheduler.domain.policy import instance_with_room
from kindling.scheduler.domain.quotas import Quota, TenantQuota
from kindling.scheduler.domain.values import InstanceState
from support import scheduler_views as views

TENANTS = ("", "a", "b")
MODELS = ("m", "o", "p")
bounds = st.builds(Quota, st.integers(0, 3), st.integers(0, 4), st.integers(0, 2), st.integers(1, 3))


class Sharing(RuleBasedStateMachine):
    """A cluster whose workers do what they are told; generations end, and starts succeed, when it pleases them."""

    @initialize(
        slots=st.integers(1, 4),
        concurrency=st.integers(1, 2),
        keep_alive=st.sampled_from((5.0, 1e6)),
        quotas=st.dictionaries(st.sampled_from(("*", *TENANTS)), bounds),
    )
    def begin(self, slots: int, concurrency: int, keep_alive: float, quotas: dict[str, Quota]) -> None:
        self.now, self.asked, self.refused = 0.0, 0, 0
        self.planner = views.planner()
        self.view, self.lines = self.planner.view, self.planner.lines
        views.add_node(self.view, views.node("n"), workers=slots)
        for name in MODELS:
            self.view.models[name] = views.model(
                name, concurrency_target=concurrency, keep_alive_seconds=keep_alive, max_queue_wait_seconds=1e9
            )
        self.view.quotas.become(TenantQuota(*one) for one in quotas.items())
        self.running: dict[str, str] = {}  # generations, and their instances
        self._plan()

    @rule(tenant=st.sampled_from(TENANTS), model=st.sampled_from(MODELS))
    def ask(self, tenant: str, model: str) -> None:
        self.asked += 1
        request = replace(views.request(f"g{self.asked}", model, self._tick()), tenant=tenant)
        if (grant := self.planner.try_grant(request, self.now)) is not None:
            self.running[request.generation_id] = grant.instance.instance_id
            return
        try:
            self.planner.hold(request, self.now)
        except ResourceExhaustedError:
            self.refused += 1
            assert self.lines.waiting_of(tenant) == self.view.quotas.of(tenant).waiting > 0
        self._plan()

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        self._end(data.draw(st.sampled_from(sorted(self.running))))
        self._plan()

    @precondition(lambda self: self._starting())
    @rule(data=st.data())
    def succeed(self, data: st.DataObject) -> None:
        self._ready(data.draw(st.sampled_from(self._starting())))
        self._plan()

    @precondition(lambda self: self._leaving())
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        self._gone(data.draw(st.sampled_from(self._leaving())))
        self._plan()

    @rule(seconds=st.sampled_from((1.0, 10.0)))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self._plan()

    @invariant()
    def nobody_has_more_than_it_may(self) -> None:
        for tenant in TENANTS:
            quota = self.view.quotas.of(tenant)
            has = (
                self.view.grants.in_flight_of(tenant),
                self.lines.waiting_of(tenant),
                self.view.devices.count(tenant),
            )
            for count, most in zip(has, (quota.generations, quota.waiting, quota.devices), strict=True):
                assert count <= most or not most
        self.view.check_integrity()

    @invariant()
    def whoever_may_run_and_has_a_place_runs(self) -> None:
        for name in MODELS:
            if instance_with_room(self.view, self.view.models[name]) is not None:
                assert self.lines.ready(name) == 0

    @invariant()
    def a_free_slot_is_used_if_anybody_may_use_it(self) -> None:
        if not self.view.slots:
            return
        for request in self.lines:
            if self._may_start(request.tenant):
                there = self.view.instances_of(request.model)
                assert any(one.state is not InstanceState.STOPPING for one in there), f"{request} has nothing coming"

    def teardown(self) -> None:
        """Everything ends in the end: so many rounds suffice as there are requests, and devices to be exchanged."""
        rounds = 0
        while next(iter(self.lines), None) is not None:
            rounds += 1
            assert rounds <= 5 * self.asked, f"{list(self.lines)} wait for good"
            for name in self._leaving():
                self._gone(name)
            for name in self._starting():
                self._ready(name)
            for name in list(self.running):
                self._end(name)
            self._tick()
            self._plan()
            self.nobody_has_more_than_it_may()

    def _may_start(self, tenant: str) -> bool:
        quota, own = self.view.quotas.of(tenant), self.view.devices.of(tenant)
        starting = sum(self.view.instances[name].state is InstanceState.STARTING for name in own)
        runs_more = not quota.generations or self.view.grants.in_flight_of(tenant) + starting < quota.generations
        return runs_more and (not quota.devices or len(own) < quota.devices)

    def _plan(self) -> None:
        while self._carry_out(self.planner.plan(self._tick())):
            pass

    def _carry_out(self, plan: Plan) -> bool:
        assert not plan.refusals
        for grant in plan.grants:
            self.running[grant.request.generation_id] = grant.instance.instance_id
        return bool(plan.grants or plan.starts or plan.stops or plan.moves)

    def _end(self, generation_id: str) -> None:
        del self.running[generation_id]
        self.planner.release(generation_id, self._tick())

    def _starting(self) -> list[str]:
        return self._in_state(InstanceState.STARTING)

    def _leaving(self) -> list[str]:
        stopping = self._in_state(InstanceState.STOPPING)
        return [name for name in stopping if name not in self.running.values()]

    def _in_state(self, state: InstanceState) -> list[str]:
        return sorted(name for name, one in self.view.instances.items() if one.state is state)

    def _ready(self, name: str) -> None:
        views.loaded(self.planner, name, self._tick())

    def _gone(self, name: str) -> None:
        gone = self.view.remove_instance(name)
        assert gone is not None
        views.report(self.view, gone.worker_id, now=self._tick())

    def _tick(self) -> float:
        self.now += 0.1
        return self.now


Sharing.TestCase.settings = settings(max_examples=50, stateful_step_count=40, deadline=None, derandomize=True)
TestSharing = Sharing.TestCase

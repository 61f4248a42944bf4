"""What holds for the scheduler's decisions whatever happens."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kindling.platform.errors import DataLossError, KindlingError, ResourceExhaustedError
from kindling.scheduler.domain.decisions import Need, StartInstance
from kindling.scheduler.domain.plans import Plan
from kindling.scheduler.domain.policy import Policy
from kindling.scheduler.domain.values import Instance, InstanceState, Worker
from kindling.scheduler.domain.view import ClusterView
from support import scheduler_views as views

CHUNKS = 20
CHUNK_BYTES = 50_000_000
MODEL = views.model(total_bytes=CHUNKS * CHUNK_BYTES)
NAMES = ("a", "b", "c")

heads = st.integers(0, CHUNKS)
speeds = st.floats(1e8, 1e11)
node_facts = st.fixed_dictionaries(
    {
        "dram": heads,
        "ssd": heads,
        "speed_dram": speeds,
        "speed_ssd": speeds,
        "speed_remote": speeds,
        "busy": st.booleans(),
    }
)


def by_brute_force(facts: dict[str, float]) -> float:
    """The startup time, chunk by chunk; the model is built meanwhile, in half a second."""
    seconds = 0.0
    for chunk in range(CHUNKS):
        if chunk < facts["dram"]:
            continue
        seconds += CHUNK_BYTES / (facts["speed_ssd"] if chunk < facts["ssd"] else facts["speed_remote"])
    return max(seconds, 0.5)


@given(st.lists(node_facts, min_size=1, max_size=6))
@settings(deadline=None)
def test_the_smallest_startup_time_wins(cluster: list[dict[str, float]]) -> None:
    view = ClusterView()
    view.models[MODEL.name] = MODEL
    expected = {}
    for number, facts in enumerate(cluster):
        name = f"n{number}"
        speeds = {tier: facts[f"speed_{tier}"] for tier in ("dram", "ssd", "remote")}
        views.add_node(view, views.node(name, **speeds))
        held = {tier: int(facts[tier]) * CHUNK_BYTES for tier in ("dram", "ssd")}
        views.hold(view, name, MODEL, **held)
        if facts["busy"]:
            views.put(view, f"x-{name}", views.model("x", min_instances=99), f"{name}/w0")
        else:
            expected[f"{name}/w0"] = by_brute_force(facts)

    decision = Policy().decide(view, Need(MODEL, queued=1), 0.0)

    if not expected:
        assert not isinstance(decision, StartInstance)
        return
    assert isinstance(decision, StartInstance)
    best = min(expected.values())
    assert abs(decision.placement.seconds - best) < 1e-6 * best
    assert abs(expected[decision.placement.worker_id] - best) < 1e-6 * best


class Scheduling(RuleBasedStateMachine):
    """A cluster to which anything may happen. The truth about what runs where is kept apart from the planner's view."""

    @initialize(
        shapes=st.lists(st.tuples(st.integers(1, 3), st.integers(0, 5)), min_size=1, max_size=4),
        sizes=st.lists(st.integers(1, 4), min_size=3, max_size=3),
        bounds=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=3, max_size=3),
        concurrency=st.integers(1, 3),
    )
    def begin(
        self, shapes: list[tuple[int, int]], sizes: list[int], bounds: list[tuple[int, int]], concurrency: int
    ) -> None:
        """Workers are drawn by slots and gigabytes of memory, which 0 of them do not tell; models by gigabytes."""
        self.now = 0.0
        self.planner = views.planner(max_start_attempts=2)
        self.view = self.planner.view
        self.asked = 0
        self.open: set[str] = set()  # requests neither granted nor refused
        self.granted: dict[str, str] = {}
        for number, (slots, gigabytes) in enumerate(shapes):
            (worker,) = views.add_node(self.view, views.node(f"n{number}"), slots=slots)
            self.view.workers[worker.worker_id] = replace(worker, memory_bytes=gigabytes * views.GB)
        self.sizes: dict[str, int] = {}  # of instances that run
        self.running: dict[str, set[str]] = {worker: set() for worker in self.view.workers}
        for name, size, (least, most) in zip(NAMES, sizes, bounds, strict=True):
            self.view.models[name] = views.model(
                name,
                size * views.GB,
                min_instances=min(least, most) if most else least,
                max_instances=most,
                concurrency_target=concurrency,
                keep_alive_seconds=50.0,
                max_queue_wait_seconds=200.0,
            )

    @rule(name=st.sampled_from(NAMES))
    def ask(self, name: str) -> None:
        self.asked += 1
        request = views.request(f"g{self.asked}", name, self.now)
        try:
            if (grant := self.planner.try_grant(request, self.now)) is not None:
                self.granted[request.generation_id] = grant.instance.instance_id
                return
            self.planner.hold(request, self.now)
            self.open.add(request.generation_id)
        except KindlingError:
            return

    @rule(seconds=st.floats(0.1, 100.0))
    def let_time_pass(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def plan(self) -> None:
        for generation_id in self.view.grants.expire(self.now):
            del self.granted[generation_id]
        protected = {i.instance_id for i in self.view.instances.values() if not self._may_stop(i)}
        plan = self.planner.plan(self.now)
        for stop in plan.stops:
            assert stop.instance.instance_id not in protected
        for start in plan.starts:
            worker = self.view.workers[start.instance.worker_id]
            assert self._held(worker) < worker.slots, "the slot is free in truth too"
            self.running[worker.worker_id].add(start.instance.instance_id)
            self.sizes[start.instance.instance_id] = self.view.models[start.instance.model].checkpoint.total_bytes
        self._settle(plan)
        again = self.planner.plan(self.now)
        assert [again.starts, again.stops, again.grants, again.refusals] == [[], [], [], []]

    @precondition(lambda self: self._in_state(InstanceState.STARTING))
    @rule(data=st.data())
    def a_start_succeeds(self, data: st.DataObject) -> None:
        instance = data.draw(st.sampled_from(self._in_state(InstanceState.STARTING)))
        views.ready(self.planner, instance.instance_id, self.now)

    @precondition(lambda self: self._in_state(InstanceState.STARTING))
    @rule(data=st.data(), hopeless=st.booleans())
    def a_start_fails(self, data: st.DataObject, hopeless: bool) -> None:
        instance = data.draw(st.sampled_from(self._in_state(InstanceState.STARTING)))
        error = DataLossError("bad", reason="X") if hopeless else ResourceExhaustedError("small", reason="Y")
        self._gone(instance)
        for refusal in self.planner.start_failed(instance.instance_id, error, self.now):
            self.open.remove(refusal.request.generation_id)
        self.report(instance.worker_id)

    @precondition(lambda self: self._in_state(InstanceState.STOPPING))
    @rule(data=st.data())
    def a_stop_ends(self, data: st.DataObject) -> None:
        instance = data.draw(st.sampled_from(self._in_state(InstanceState.STOPPING)))
        self._gone(instance)
        self.view.remove_instance(instance.instance_id)
        self.report(instance.worker_id)

    @precondition(lambda self: self.granted)
    @rule(data=st.data())
    def a_generation_ends(self, data: st.DataObject) -> None:
        generation_id = data.draw(st.sampled_from(sorted(self.granted)))
        del self.granted[generation_id]
        self.planner.release(generation_id, self.now)

    @rule(data=st.data())
    def a_connection_breaks(self, data: st.DataObject) -> None:
        self.view.disconnect(data.draw(st.sampled_from(sorted(self.view.workers))), self.now)

    @rule(data=st.data())
    def a_connection_is_back(self, data: st.DataObject) -> None:
        worker_id = data.draw(st.sampled_from(sorted(self.view.workers)))
        self.view.connect(worker_id, self.now)
        self.report(worker_id)

    @rule(data=st.data())
    def a_worker_is_lost(self, data: st.DataObject) -> None:
        worker_id = data.draw(st.sampled_from(sorted(self.view.workers)))
        self.view.disconnect(worker_id, self.now)
        for instance in self.view.instances_on(worker_id):
            self._gone(instance)
            self.view.remove_instance(instance.instance_id)
        self.running[worker_id].clear()

    @rule(name=st.sampled_from(NAMES))
    def a_model_is_replaced(self, name: str) -> None:
        model = self.view.models[name]
        newer = views.model(f"{name}-{self.asked}", (1 + self.asked % 4) * views.GB).checkpoint
        self.view.models[name] = type(model)(name, newer, model.settings)
        self.planner.troubles.clear(name)

    @invariant()
    def the_view_holds_together(self) -> None:
        if hasattr(self, "view"):
            self.view.check_integrity()

    @invariant()
    def no_slot_is_double_booked(self) -> None:
        for worker_id, names in getattr(self, "running", {}).items():
            assert len(names) <= self.view.workers[worker_id].slots

    @invariant()
    def no_device_holds_more_than_it_can(self) -> None:
        for worker_id, names in getattr(self, "running", {}).items():
            memory_bytes = self.view.workers[worker_id].memory_bytes
            assert not memory_bytes or sum(self.sizes[name] for name in names) <= memory_bytes

    @invariant()
    def no_model_exceeds_its_maximum(self) -> None:
        for name in NAMES if hasattr(self, "view") else ():
            most = self.view.models[name].settings.max_instances
            alive = [i for i in self.view.instances_of(name) if i.state is not InstanceState.STOPPING]
            assert not most or len(alive) <= most

    @invariant()
    def everyone_who_waits_is_in_line_once(self) -> None:
        if hasattr(self, "open"):
            assert sorted(request.generation_id for request in self.planner.lines) == sorted(self.open)

    def report(self, worker_id: str) -> None:
        if self.view.link(worker_id).connected:
            views.report(self.view, worker_id, now=self.now)

    def _may_stop(self, instance: Instance) -> bool:
        """Whether it runs what nobody asks for any more, or is idle and the minimum is there without it."""
        if not self.view.is_current(instance):
            return True
        others = [i for i in self.view.instances_of(instance.model) if i != instance and self.view.serves(i)]
        least = self.view.models[instance.model].settings.min_instances
        return instance.instance_id not in self.granted.values() and len(others) >= least

    def _held(self, worker: Worker) -> int:
        return len(self.running[worker.worker_id])

    def _in_state(self, state: InstanceState) -> list[Instance]:
        instances = getattr(self, "view", ClusterView()).instances
        return [instances[name] for name in sorted(instances) if instances[name].state is state]

    def _gone(self, instance: Instance) -> None:
        self.running[instance.worker_id].discard(instance.instance_id)
        lost = [generation for generation, name in self.granted.items() if name == instance.instance_id]
        for generation_id in lost:
            del self.granted[generation_id]

    def _settle(self, plan: Plan) -> None:
        for grant in plan.grants:
            self.open.remove(grant.request.generation_id)
            self.granted[grant.request.generation_id] = grant.instance.instance_id
        for refusal in plan.refusals:
            self.open.remove(refusal.request.generation_id)


Scheduling.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestScheduling = Scheduling.TestCase

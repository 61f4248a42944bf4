"""What holds while instances move, nodes are drained and requests avoid instances, whatever happens in between."""

from collections.abc import Iterator
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kindling.platform.errors import KindlingError, ResourceExhaustedError
from kindling.scheduler.domain.plans import Plan
from kindling.scheduler.domain.values import Instance, InstanceState, Migration
from kindling.scheduler.domain.view import ClusterView
from support import scheduler_views as views

NAMES = ("a", "b")
names = st.sampled_from(NAMES)
picks = st.integers(0, 99)  # which of what there is
AVOIDED_SECONDS = 2.0


class Moving(RuleBasedStateMachine):
    """A busy cluster. As the scheduler does, it plans after everything that happens. The truth about what runs where,
    and about who was granted what, is kept apart from the planner's view."""

    @initialize(
        slots=st.lists(st.integers(1, 2), min_size=2, max_size=4),
        running=st.lists(st.sampled_from((*NAMES, "")), min_size=8, max_size=8),
        concurrency=st.integers(1, 3),
        least=st.integers(0, 1),
    )
    def begin(self, slots: list[int], running: list[str], concurrency: int, least: int) -> None:
        self.now = 0.0
        self.planner = views.planner(max_start_attempts=2, grant_ttl_seconds=30.0)
        self.view = self.planner.view
        self.asked = 0
        self.avoids: dict[str, tuple[frozenset[str], float]] = {}  # and until when for certain
        self.granted: dict[str, str] = {}
        for name in NAMES:
            bounds = {"concurrency_target": concurrency, "min_instances": least, "keep_alive_seconds": 50.0}
            self.view.models[name] = views.model(name, **bounds)
        for number, count in enumerate(slots):
            views.add_node(self.view, views.node(f"n{number}"), slots=count)
        self.running: dict[str, set[str]] = {worker: set() for worker in self.view.workers}
        free = [worker.worker_id for worker in self.view.workers.values() for _ in range(worker.slots)]
        for number, (name, worker_id) in enumerate(zip(running, free, strict=False)):
            if name:
                views.put(self.view, f"{name}-first-{number}", self.view.models[name], worker_id)
                self.running[worker_id].add(f"{name}-first-{number}")
        for name in running:
            if name:
                self._ask(name)
        self._plan()

    # Requests

    @rule(name=names, choosy=st.booleans(), pick=picks)
    def somebody_asks(self, name: str, choosy: bool, pick: int) -> None:
        there = [one.instance_id for one in self.view.instances_of(name)]
        self._ask(name, *([there[pick % len(there)]] if choosy and there else []))
        self._plan()

    @rule(pick=picks)
    def a_generation_asks_for_another_place(self, pick: int) -> None:
        if self.granted:
            generation_id = sorted(self.granted)[pick % len(self.granted)]
            instance = self.view.instances[self.granted.pop(generation_id)]
            self._ask(instance.model, instance.instance_id, generation_id=generation_id)
        self._plan()

    @rule(pick=picks)
    def a_generation_ends(self, pick: int) -> None:
        if self.granted:
            generation_id = sorted(self.granted)[pick % len(self.granted)]
            del self.granted[generation_id]
            self.planner.release(generation_id, self.now)
        self._plan()

    @rule(seconds=st.sampled_from((0.5, 2.0, 60.0)))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self._plan()

    # Instances

    @rule(pick=picks, succeeds=st.booleans())
    def a_start_ends(self, pick: int, succeeds: bool) -> None:
        if starting := self._in_state(InstanceState.STARTING):
            instance = starting[pick % len(starting)]
            if succeeds:
                views.ready(self.planner, instance.instance_id, self.now)
            else:
                self._gone(instance)
                self.planner.start_failed(instance.instance_id, _small(), self.now)
                views.report(self.view, instance.worker_id, now=self.now)
        self._plan()

    @rule(pick=picks)
    def a_stop_ends(self, pick: int) -> None:
        if stopping := self._in_state(InstanceState.STOPPING):
            instance = stopping[pick % len(stopping)]
            self._gone(instance)
            self.view.remove_instance(instance.instance_id)
            views.report(self.view, instance.worker_id, now=self.now)
        self._plan()

    @rule(pick=picks)
    def a_worker_is_lost_and_comes_back(self, pick: int) -> None:
        worker_id = sorted(self.view.workers)[pick % len(self.view.workers)]
        self.view.disconnect(worker_id, self.now)
        for instance in self.view.instances_on(worker_id):
            self._gone(instance)
            self.view.remove_instance(instance.instance_id)
        self._plan()
        self.view.connect(worker_id, self.now)
        views.report(self.view, worker_id, now=self.now)
        self._plan()

    # Moves

    @rule(pick=picks)
    def a_node_is_drained_or_not_any_more(self, pick: int) -> None:
        self.view.drained ^= {sorted(self.view.nodes)[pick % len(self.view.nodes)]}
        self._plan()

    @rule(pick=picks, to=picks)
    def somebody_asks_to_move_one(self, pick: int, to: int) -> None:
        worker = self.view.workers[sorted(self.view.workers)[to % len(self.view.workers)]]
        ready = [one for one in self._in_state(InstanceState.READY) if one.worker_id != worker.worker_id]
        if ready:
            source = ready[pick % len(ready)]
            try:
                moves = self.planner.relocation.to_worker(self.view.models[source.model], worker, [source], self.now)
            except KindlingError:
                return
            self._begin(Plan(moves=moves))
        self._plan()

    @rule(pick=picks, ends=st.sampled_from(("moves", "moves all", "fails", "succeeds")))
    def a_migration_goes_on(self, pick: int, ends: str) -> None:
        """Its target is ready: one generation moves, or all, or it fails, or its source is told to stop."""
        if movable := list(self._movable()):
            migration = replace(movable[pick % len(movable)], moving=True)
            self.view.put_migration(migration)
            self._move(migration, {"fails": 0, "moves": 1}.get(ends))
            if ends == "fails":
                source = self.view.instances[migration.source_id]
                self.view.end_migration(migration)
                self.planner.relocation.failed(source, _small(), self.now)
            elif ends == "succeeds":
                assert self.view.grants.in_flight(migration.source_id) == 0, "nobody was granted a place there since"
                self.view.end_migration(migration)
                self.planner.stop(migration.source_id, "its generations moved", self.now)
        self._plan()

    def _move(self, migration: Migration, most: int | None) -> None:
        there = sorted(one for one, name in self.granted.items() if name == migration.source_id)
        for generation_id in there[:most]:
            self.view.grants.move(generation_id, migration.source_id, migration.target_id, self.now)
            self.granted[generation_id] = migration.target_id

    def _movable(self) -> Iterator[Migration]:
        for _, migration in sorted(self.view.migrations.items()):
            if self.view.instances[migration.target_id].state is InstanceState.READY:
                yield migration

    # What holds

    @invariant()
    def the_view_holds_together(self) -> None:
        if hasattr(self, "view"):
            self.view.check_integrity()

    @invariant()
    def every_grant_counts_on_its_instance_alone(self) -> None:
        for instance_id in getattr(self, "view", ClusterView()).instances:
            granted = sum(name == instance_id for name in self.granted.values())
            assert self.view.grants.in_flight(instance_id) == granted

    @invariant()
    def nothing_ready_stays_on_a_drained_node_without_work_or_without_a_word(self) -> None:
        view = getattr(self, "view", ClusterView())
        for instance in self._in_state(InstanceState.READY):
            if instance.node_id in view.drained and not view.migrations_of(instance.instance_id):
                assert view.is_busy(instance)
                leaving = self._in_state(InstanceState.STOPPING) or view.migrations
                assert instance.instance_id in self.planner.relocation.obstacle(instance.node_id) or leaving

    # The rest

    def _ask(self, name: str, *avoid: str, generation_id: str = "") -> None:
        self.asked += 1
        request = views.request(generation_id or f"g{self.asked}", name, self.now, *avoid)
        self.avoids[request.generation_id] = request.avoid, self.now + AVOIDED_SECONDS
        try:
            if (grant := self.planner.try_grant(request, self.now)) is not None:
                self._note_grant(request.generation_id, grant.instance)
            else:
                self.planner.hold(request, self.now)
        except KindlingError:
            return

    def _plan(self) -> None:
        for generation_id in self.view.grants.expire(self.now):
            del self.granted[generation_id]
        moving = {name for one in self.view.migrations.values() for name in (one.source_id, one.target_id)}
        busy = set(self.granted.values())
        plan = self.planner.plan(self.now)
        for stop in plan.stops:
            assert stop.instance.instance_id not in moving | busy
        for grant in plan.grants:
            self._note_grant(grant.request.generation_id, grant.instance)
        self._begin(plan)
        again = self.planner.plan(self.now)
        assert [again.starts, again.stops, again.grants, again.refusals, again.moves] == [[], [], [], [], []]
        assert not again.has_news or not self.planner.plan(self.now).has_news

    def _begin(self, plan: Plan) -> None:
        for start in [*plan.starts, *(move.start for move in plan.moves if move.start)]:
            worker = self.view.workers[start.instance.worker_id]
            assert len(self.running[worker.worker_id]) < worker.slots, "the slot is free in truth too"
            assert worker.node_id not in self.view.drained
            self.running[worker.worker_id].add(start.instance.instance_id)

    def _note_grant(self, generation_id: str, instance: Instance) -> None:
        avoided, until = self.avoids[generation_id]
        assert self.now >= until or instance.instance_id not in avoided
        migration = self.view.migrations.get(instance.instance_id)
        assert not (migration.moving if migration else instance.node_id in self.view.drained)
        self.granted[generation_id] = instance.instance_id

    def _gone(self, instance: Instance) -> None:
        self.running[instance.worker_id].discard(instance.instance_id)
        self.granted = {one: name for one, name in self.granted.items() if name != instance.instance_id}

    def _in_state(self, state: InstanceState) -> list[Instance]:
        instances = getattr(self, "view", ClusterView()).instances
        return [instances[name] for name in sorted(instances) if instances[name].state is state]


def _small() -> ResourceExhaustedError:
    return ResourceExhaustedError("small", reason="Y")


Moving.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None, derandomize=True)
TestMoving = Moving.TestCase

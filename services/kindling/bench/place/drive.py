"""A stream of events through the planner, as the service brings them: each is timed with the planning that follows."""

import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable

from kindling.bench.place.cluster import loaded, report, run_instance
from kindling.bench.place.results import Kind, Sample
from kindling.scheduler.domain.planner import Planner
from kindling.scheduler.domain.plans import Grant, Move, Plan, Start, Stop
from kindling.scheduler.domain.values import Request, Residency, Tier

_STEP_SECONDS = 0.001
_FREE_SHARE = 0.1
_WARM_SHARE = 0.85  # of requests
_SKEW = 3  # of the models that run, a few are asked for far more often than the rest


class Driver:
    """Brings one event after the other. What is decided happens at once, so that nothing waits for long."""

    def __init__(self, planner: Planner, dice: random.Random, sample: Sample) -> None:
        self._planner = planner
        self._view = planner.view
        self._dice = dice
        self._sample = sample
        self._now = 0.0
        self._asked = 0
        self._workers = list(self._view.workers)
        self._cold = list(self._view.models)
        self._warm: list[str] = []
        self._generations: list[tuple[str, str]] = []  # with their workers
        self._in_worker: defaultdict[str, set[str]] = defaultdict(set)
        self._free_share = _FREE_SHARE
        dice.shuffle(self._cold)

    def fill(self) -> None:
        """Before anything is timed: all but a tenth of the slots run a model each; that tenth stays free."""
        self._occupy(self._dice.sample(self._workers, int(len(self._workers) * (1 - _FREE_SHARE))))

    def fill_up(self) -> None:
        """Not timed either: no slot is free from now on."""
        self._free_share = 0.0
        self._occupy([name for name in self._workers if not self._view.instances_on(name)])

    def run(self, steps: int) -> None:
        """Bring so many events, in the shares that a busy cluster has them, with all that follows from them."""
        events = (self._request, self._end_generation, self._report, self._tell_residency)
        for event in self._dice.choices(events, weights=(45, 40, 10, 5), k=steps):
            event()

    def _occupy(self, worker_ids: Iterable[str]) -> None:
        for worker_id in worker_ids:
            self._now += _STEP_SECONDS
            name = self._cold.pop()
            run_instance(self._view, self._view.models[name], worker_id, len(self._warm), self._now)
            self._warm.append(name)

    # Events

    def _request(self) -> None:
        self._asked += 1
        request = Request(f"g{self._asked}", self._next_model(), self._now)
        began = time.perf_counter()
        grant = self._planner.try_grant(request, self._now)
        took = time.perf_counter() - began
        if grant is not None:
            self._sample.add(Kind.WARM, took)
            self._note(grant)
        else:
            self._step(None, lambda: self._planner.hold(request, self._now), took)
            self._keep_free()

    def _next_model(self) -> str:
        if self._dice.random() < _WARM_SHARE:
            return self._warm[int(len(self._warm) * self._dice.random() ** _SKEW)]
        return self._dice.choice(self._cold)

    def _end_generation(self) -> None:
        if self._generations:
            place = self._dice.randrange(len(self._generations))
            self._generations[place], self._generations[-1] = self._generations[-1], self._generations[place]
            name, worker_id = self._generations.pop()
            self._in_worker[worker_id].discard(name)
            self._step(Kind.RELEASE, lambda: self._planner.release(name, self._now))

    def _report(self) -> None:
        worker_id = self._dice.choice(self._workers)
        self._step(Kind.REPORT, lambda: self._hear(worker_id))

    def _tell_residency(self) -> None:
        node_id = self._dice.choice(self._workers).rpartition("/")[0]
        checkpoint = self._view.models[self._dice.choice(self._cold)].checkpoint
        held = {Tier.SSD: int(checkpoint.total_bytes * self._dice.random())}
        self._step(Kind.RESIDENCY, lambda: self._view.put_residency(Residency(node_id, checkpoint.digest, held)))

    # What follows

    def _step(self, kind: Kind | None, happen: Callable[[], object], before_seconds: float = 0.0) -> None:
        """Time an event with the planning after it, and have its plan come true."""
        self._now += _STEP_SECONDS
        began = time.perf_counter()
        happen()
        self._planner.lost_workers(self._now)
        plan = self._planner.plan(self._now)
        self._planner.next_deadline(self._now)
        took = time.perf_counter() - began + before_seconds
        self._sample.add(_kind(plan) if kind is None else kind, took)
        self._follow(plan)

    def _follow(self, plan: Plan) -> None:
        for grant in plan.grants:
            self._note(grant)
        for stop in plan.stops:
            self._have_stopped(stop)
        for start in plan.starts:
            self._have_started(start)
        for move in plan.moves:
            self._have_moved(move)

    def _note(self, grant: Grant) -> None:
        worker_id, name = grant.instance.worker_id, grant.request.generation_id
        self._generations.append((name, worker_id))
        self._in_worker[worker_id].add(name)

    def _have_started(self, start: Start) -> None:
        instance = start.instance
        if instance.model in self._cold:
            self._cold.remove(instance.model)
            self._warm.append(instance.model)
        self._step(Kind.READY, lambda: self._make_ready(instance.instance_id, instance.worker_id))

    def _make_ready(self, instance_id: str, worker_id: str) -> None:
        self._planner.outcomes.started(instance_id, loaded(), self._now)
        self._hear(worker_id)

    def _have_stopped(self, stop: Stop) -> None:
        instance = stop.instance
        if len(self._view.instances_of(instance.model)) == 1:
            self._warm.remove(instance.model)
            self._cold.append(instance.model)
        awaited = next(iter(self._planner.lines.names()), None)
        self._step(
            Kind.START_AFTER_EVICTION if awaited else Kind.STOPPED,
            lambda: self._make_gone(instance.instance_id, instance.worker_id),
        )

    def _have_moved(self, move: Move) -> None:
        """The target starts, takes the source's generations over, and the source stops."""
        source, target = (self._view.instances[name] for name in (move.migration.source_id, move.migration.target_id))
        self._step(Kind.READY, lambda: self._make_ready(target.instance_id, target.worker_id))
        if not self._view.is_under_way(move.migration):
            return
        for name in self._in_worker.pop(source.worker_id, set()):
            self._view.grants.move(name, source.instance_id, target.instance_id, self._now)
            self._in_worker[target.worker_id].add(name)
        self._generations = [(name, self._worker_of(name, worker_id)) for name, worker_id in self._generations]
        self._view.end_migration(move.migration)
        self._have_stopped(self._planner.stop(source.instance_id, "its generations have moved", self._now))

    def _worker_of(self, generation_id: str, before: str) -> str:
        instance_id = self._view.grants.instance_of(generation_id)
        return self._view.instances[instance_id].worker_id if instance_id else before

    def _make_gone(self, instance_id: str, worker_id: str) -> None:
        self._view.remove_instance(instance_id)
        self._hear(worker_id)

    def _hear(self, worker_id: str) -> None:
        report(self._view, worker_id, self._now, frozenset(self._in_worker[worker_id]))
        self._planner.outcomes.loaded(worker_id, self._now)

    def _keep_free(self) -> None:
        """Stop who has been idle longest, as an operator would, until as many slots are free as should be."""
        while len(self._view.instances) > len(self._workers) * (1 - self._free_share):
            if (idle := next(self._view.idle.in_eviction_order(self._now), None)) is None:
                return
            self._have_stopped(self._planner.stop(idle, "the benchmark needs free slots", self._now))


def _kind(plan: Plan) -> Kind:
    if plan.starts:
        return Kind.START
    if plan.moves:
        return Kind.MOVE
    return Kind.EVICT if plan.stops else Kind.WAIT

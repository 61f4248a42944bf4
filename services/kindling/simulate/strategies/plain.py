"""What a user would otherwise have: requests take an instance that is ready, or a device by a simple rule."""

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

from kindling.scheduler.domain.values import ModelSettings
from kindling.simulate.running import Generation
from kindling.simulate.simulated_cluster import SimulatedCluster

Choice = Callable[[SimulatedCluster, str, Sequence[str]], str | None]
"""Of the workers that could start a model, the one that does; none to wait for another."""


def random_device(seed: int) -> Choice:
    """Any device: serverless systems that know nothing of where checkpoints are."""
    chance = random.Random(seed)
    return lambda _cluster, _model, workers: chance.choice(workers)


def nearest_device(cluster: SimulatedCluster, model: str, workers: Sequence[str]) -> str | None:
    """One on a node that has the checkpoint in the fastest tier of all nodes; while none of those is free, wait."""
    digest = cluster.checkpoints[model].digest
    best = min(node.source_of(digest) for node in cluster.nodes.values())
    near = (worker for worker in workers if cluster.node_of(worker).source_of(digest) is best)
    return next(near, None)


@dataclass(slots=True)
class PlainInstance:
    """One of a plain strategy's instances."""

    instance_id: str
    model: str
    worker_id: str
    is_ready: bool = False
    generations: dict[str, float] = field(default_factory=dict)  # and when each began
    idle_since: float = field(default=0.0)


class PlainStrategy:
    """One line per model; a request that has waited for too long gives up.

    An instance takes as many generations as the model's concurrency target; one more starts for what those under way
    cannot take. When no device is free, an idle instance of another model gives way, the least recently used first.
    """

    def __init__(self, cluster: SimulatedCluster, settings: ModelSettings, choose: Choice) -> None:
        self._cluster = cluster
        self._events = cluster.events
        self._settings = settings
        self._choose = choose
        self._names = count()
        self._lines: dict[str, deque[Generation]] = {model: deque() for model in cluster.checkpoints}
        self._on: dict[str, PlainInstance] = {}

    def arrive(self, generation: Generation) -> None:
        """Stand in line; see ``Strategy``."""
        self._lines[generation.arrival.model].append(generation)
        self._events.after(self._settings.max_queue_wait_seconds, self._serve)
        self._serve()

    def _serve(self) -> None:
        self._give_up()
        for model in self._in_order():
            self._fill(model)  # all before any starts: who came first would else stop what another has waited for
        for model in self._in_order():
            while len(self._lines[model]) > self._coming(model) and self._start(model):
                pass

    def _in_order(self) -> list[str]:
        """The models that somebody waits for, the longest wait first."""
        waiting = [model for model, line in self._lines.items() if line]
        return sorted(waiting, key=lambda name: self._lines[name][0].arrival.at_seconds)

    def _give_up(self) -> None:
        longest = self._settings.max_queue_wait_seconds
        for line in self._lines.values():
            while line and line[0].arrival.at_seconds + longest <= self._events.now:
                self._cluster.refuse(line.popleft())

    def _fill(self, model: str) -> None:
        line, room = self._lines[model], self._settings.concurrency_target
        for instance in self._of(model):
            while line and instance.is_ready and len(instance.generations) < room:
                self._begin(line.popleft(), instance)

    def _coming(self, model: str) -> int:
        """How many generations the instances that start will take."""
        return self._settings.concurrency_target * sum(not instance.is_ready for instance in self._of(model))

    def _of(self, model: str) -> list[PlainInstance]:
        return [instance for instance in self._on.values() if instance.model == model]

    def _start(self, model: str) -> bool:
        if (worker := self._find_device(model)) is None:
            return False
        if worker in self._on:
            self._stop(self._on[worker])
        instance = self._on[worker] = PlainInstance(f"instance-{next(self._names)}", model, worker)
        self._cluster.start(instance.instance_id, model, worker, lambda _report: self._ready(instance))
        return True

    def _find_device(self, model: str) -> str | None:
        """A device that is free, or has an instance of another model that may stop."""
        free = [worker for worker in self._cluster.workers if worker not in self._on]
        idle = sorted(self._idle(model), key=lambda instance: instance.idle_since)
        worker = self._choose(self._cluster, model, free) if free else None
        if worker is None and idle:
            worker = self._choose(self._cluster, model, [instance.worker_id for instance in idle])
        return worker

    def _idle(self, wanted: str) -> list[PlainInstance]:
        others = (instance for instance in self._on.values() if instance.model != wanted)
        return [instance for instance in others if instance.is_ready and not instance.generations]

    def _ready(self, instance: PlainInstance) -> None:
        instance.is_ready = True
        self._rest(instance)
        self._serve()

    def _begin(self, generation: Generation, instance: PlainInstance) -> None:
        name = generation.generation_id
        instance.generations[name] = self._events.now
        self._cluster.begin(generation, instance.instance_id, lambda: self._end(name, instance))

    def _end(self, generation_id: str, instance: PlainInstance) -> None:
        del instance.generations[generation_id]
        if not instance.generations:
            self._rest(instance)
        self._serve()

    def _rest(self, instance: PlainInstance) -> None:
        """Be idle from now on, and stop if that lasts."""
        now = instance.idle_since = self._events.now
        self._events.after(self._settings.keep_alive_seconds, lambda: self._expire(instance, now))

    def _expire(self, instance: PlainInstance, idle_since: float) -> None:
        is_there = self._on.get(instance.worker_id) is instance
        if is_there and not instance.generations and instance.idle_since == idle_since:
            self._stop(instance)
            self._serve()

    def _stop(self, instance: PlainInstance) -> None:
        del self._on[instance.worker_id]
        self._cluster.stop(instance.instance_id)

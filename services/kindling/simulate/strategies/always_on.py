"""An instance of every model at all times: to compare the cost with, and a floor under the waits of all others."""

from collections import deque
from itertools import islice

from kindling.scheduler.domain.values import ModelSettings
from kindling.simulate.running import Generation
from kindling.simulate.simulated_cluster import SimulatedCluster

_POOL = "all models"


class AlwaysOnStrategy:
    """Each model has a device of its own, loaded before the first request; what it cannot take at once stands in line.

    With ``pooled_places``, no device is ever too full: all models stand in one line, first come first served, for so
    many generations at once. It needs a cluster with a device for each model.
    """

    def __init__(self, cluster: SimulatedCluster, settings: ModelSettings, pooled_places: int = 0) -> None:
        models = cluster.checkpoints
        self._cluster = cluster
        self._line_of = {model: _POOL if pooled_places else model for model in models}
        self._lines: dict[str, deque[Generation]] = {name: deque() for name in self._line_of.values()}
        self._room = dict.fromkeys(self._lines, pooled_places or settings.concurrency_target)
        self._longest_seconds = settings.max_queue_wait_seconds
        for model, worker_id in zip(models, islice(cluster.workers, len(models)), strict=True):
            cluster.keep(model, model, worker_id)

    def arrive(self, generation: Generation) -> None:
        """Stand in line; see ``Strategy``."""
        name = self._line_of[generation.arrival.model]
        self._lines[name].append(generation)
        self._cluster.events.after(self._longest_seconds, lambda: self._serve(name))
        self._serve(name)

    def _serve(self, name: str) -> None:
        line, now = self._lines[name], self._cluster.events.now
        while line and line[0].arrival.at_seconds + self._longest_seconds <= now:
            self._cluster.refuse(line.popleft())
        while line and self._room[name]:
            self._room[name] -= 1
            generation = line.popleft()
            self._cluster.begin(generation, generation.arrival.model, lambda: self._end(name))

    def _end(self, name: str) -> None:
        self._room[name] += 1
        self._serve(name)

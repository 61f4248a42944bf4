"""An instance of every model at all times: what serverless inference is to be cheaper than."""

from collections import deque
from itertools import islice

from kindling.scheduler.domain.values import ModelSettings
from kindling.simulate.running import Generation
from kindling.simulate.simulated_cluster import SimulatedCluster


class AlwaysOnStrategy:
    """Each model has a device of its own, loaded before the first request; what it cannot take at once stands in line.

    It needs a cluster with a device for each model.
    """

    def __init__(self, cluster: SimulatedCluster, settings: ModelSettings) -> None:
        self._cluster = cluster
        self._room = dict.fromkeys(cluster.checkpoints, settings.concurrency_target)
        self._longest_seconds = settings.max_queue_wait_seconds
        self._lines: dict[str, deque[Generation]] = {model: deque() for model in cluster.checkpoints}
        for model, worker_id in zip(cluster.checkpoints, islice(cluster.workers, len(self._room)), strict=True):
            cluster.keep(model, model, worker_id)

    def arrive(self, generation: Generation) -> None:
        """Stand in line; see ``Strategy``."""
        self._lines[generation.arrival.model].append(generation)
        self._cluster.events.after(self._longest_seconds, lambda: self._serve(generation.arrival.model))
        self._serve(generation.arrival.model)

    def _serve(self, model: str) -> None:
        line, now = self._lines[model], self._cluster.events.now
        while line and line[0].arrival.at_seconds + self._longest_seconds <= now:
            self._cluster.refuse(line.popleft())
        while line and self._room[model]:
            self._room[model] -= 1
            self._cluster.begin(line.popleft(), model, lambda: self._end(model))

    def _end(self, model: str) -> None:
        self._room[model] += 1
        self._serve(model)

"""A floor under all strategies: the waiting left where every place serves every model and nothing is ever loaded."""

from collections import deque
from itertools import islice

from kindling.scheduler.domain.values import ModelSettings
from kindling.simulate.running import Generation
from kindling.simulate.simulated_cluster import SimulatedCluster


class PooledStrategy:
    """All models stand in one line, first come first served, for ``places``: generations at once on the devices that
    the other strategies have.

    It needs a cluster with a device for each model, all loaded before the first request.
    """

    def __init__(self, cluster: SimulatedCluster, settings: ModelSettings, places: int) -> None:
        self._cluster = cluster
        self._places = places
        self._longest_seconds = settings.max_queue_wait_seconds
        self._line = deque[Generation]()
        for model, worker_id in zip(
            cluster.checkpoints, islice(cluster.workers, len(cluster.checkpoints)), strict=True
        ):
            cluster.keep(model, model, worker_id)

    def arrive(self, generation: Generation) -> None:
        """Stand in line; see ``Strategy``."""
        self._line.append(generation)
        self._cluster.events.after(self._longest_seconds, self._serve)
        self._serve()

    def _serve(self) -> None:
        line, now = self._line, self._cluster.events.now
        while line and line[0].arrival.at_seconds + self._longest_seconds <= now:
            self._cluster.refuse(line.popleft())
        while line and self._places:
            self._places -= 1
            generation = line.popleft()
            self._cluster.begin(generation, generation.arrival.model, self._end)

    def _end(self) -> None:
        self._places += 1
        self._serve()

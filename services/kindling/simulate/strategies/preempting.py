"""Preempting, as Shepherd does it where ServerlessLLM's evaluation compares with it."""

from collections.abc import Iterator

from kindling.scheduler.domain.values import ModelSettings
from kindling.simulate.simulated_cluster import SimulatedCluster
from kindling.simulate.strategies.plain import PlainInstance, PlainStrategy, nearest_device


class PreemptingStrategy(PlainStrategy):
    """Goes where the checkpoint is nearest; what generates there gives way if no device of those is free or idle.

    Assumed: the instance that began its last generation last gives way. Its generations are first in line again and
    begin anew from their prompts; none is preempted twice, nor does it preempt others, so that each comes to its end.
    """

    def __init__(self, cluster: SimulatedCluster, settings: ModelSettings) -> None:
        super().__init__(cluster, settings, nearest_device)
        self._preempted: set[str] = set()

    def _find_device(self, model: str) -> str | None:
        if (worker := super()._find_device(model)) is not None:
            return worker
        if self._lines[model][0].generation_id in self._preempted:
            return None
        victims = sorted(self._victims(model), key=lambda one: max(one.generations.values()), reverse=True)
        worker = nearest_device(self._cluster, model, [one.worker_id for one in victims]) if victims else None
        if worker is not None:
            self._preempt(self._on[worker])
        return worker

    def _victims(self, wanted: str) -> Iterator[PlainInstance]:
        for instance in self._on.values():
            if instance.model != wanted and instance.generations and not self._preempted & instance.generations.keys():
                yield instance

    def _preempt(self, instance: PlainInstance) -> None:
        for generation_id in reversed(instance.generations):
            self._preempted.add(generation_id)
            self._lines[instance.model].appendleft(self._cluster.interrupt(generation_id))
        instance.generations.clear()

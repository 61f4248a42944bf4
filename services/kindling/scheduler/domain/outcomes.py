"""What became of starts, entered into the view: they serve, they have loaded, or they have failed."""

from dataclasses import replace

from kindling.platform.errors import KindlingError
from kindling.scheduler.domain.troubles import Troubles
from kindling.scheduler.domain.values import Instance, InstanceState, LoadReport, Model
from kindling.scheduler.domain.view import ClusterView


class Outcomes:
    """Takes in what workers tell of starts; a model whose start succeeded has no trouble any more."""

    def __init__(self, view: ClusterView, troubles: Troubles) -> None:
        self._view = view
        self._troubles = troubles

    def started(self, instance_id: str, report: LoadReport, now: float) -> Instance | None:
        """An instance takes generations; returns it as it is now, or none if it was given up meanwhile."""
        instance = self._view.instances.get(instance_id)
        if instance is None or instance.state is not InstanceState.STARTING:
            return None
        loaded = self._view.link(instance.worker_id).loaded(instance_id)  # it may have been told before
        ready = replace(instance, state=InstanceState.READY, ready_at=now, report=loaded or report)
        self._view.put_instance(ready, now)
        self._view.grants.touch(instance_id, now)
        if not ready.is_loading:
            self._troubles.clear(instance.model)
        return ready

    def loaded(self, worker_id: str, now: float) -> list[Instance]:
        """Take over which instances the worker says are loaded; returns those of which that is new."""
        link = self._view.link(worker_id)
        news = []
        for instance in self._view.instances_on(worker_id):
            report = link.loaded(instance.instance_id)
            if report is not None and instance.report is not None and instance.is_loading:
                later = max(0.0, report.total_seconds - instance.report.total_seconds)
                news.append(replace(instance, report=report, loaded_at=instance.ready_at + later))
                self._view.put_instance(news[-1], now)
                self._troubles.clear(instance.model)
        return news

    def failed(self, instance_id: str, error: KindlingError, now: float) -> Model | None:
        """A start failed, or the load after it; returns its model if there is no point in trying another worker."""
        known = self._view.instances.get(instance_id)
        if known is None or known.state is InstanceState.STOPPING:  # it was given up meanwhile
            return None
        self._view.remove_instance(instance_id)
        model = self._view.models.get(known.model)
        is_settled = model is not None and self._troubles.note(known.model, known.worker_id, error, now)
        return model if is_settled else None

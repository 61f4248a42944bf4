"""What is decided to start, from its name on."""

from collections.abc import Callable

from kindling.scheduler.domain.estimate import Estimate
from kindling.scheduler.domain.values import Instance, InstanceState, Model
from kindling.scheduler.domain.view import ClusterView


class NewInstances:
    """Names instances by their models, with a suffix that no other has."""

    def __init__(self, view: ClusterView, new_suffix: Callable[[], str]) -> None:
        self._view = view
        self._new_suffix = new_suffix

    def enter(self, model: Model, placement: Estimate, now: float, tenant: str | None) -> Instance:
        """Enter an instance that is to start where it was placed, as a tenant's device if it is anybody's."""
        instance = Instance(
            instance_id=self._new_name(model.name),
            model=model.name,
            digest=model.checkpoint.digest,
            worker_id=placement.worker_id,
            state=InstanceState.STARTING,
            estimated_seconds=placement.seconds,
            source=placement.source,
            started_at=now,
            tenant=tenant,
            device_bytes=model.device_bytes,
            others=placement.others,
        )
        self._view.put_instance(instance, now)
        return instance

    def _new_name(self, model: str) -> str:
        while (name := f"{model}-{self._new_suffix()}") in self._view.instances:
            pass
        return name

"""Stopping instances: recorded first, then asked of the worker until it is done."""

from collections.abc import Callable

from kindling.platform.clock import Clock
from kindling.platform.errors import KindlingError
from kindling.platform.logging import get_logger
from kindling.scheduler.changes import Changes
from kindling.scheduler.domain.planner import Planner
from kindling.scheduler.domain.plans import Stop
from kindling.scheduler.domain.values import Instance, Worker
from kindling.scheduler.ports import Store, Workers

log = get_logger(__name__)
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0


class Stops:
    """The stops under way. Each ends when the worker says so, or when the worker is lost."""

    def __init__(self, store: Store, workers: Workers, planner: Planner, clock: Clock, changes: Changes) -> None:
        self._store = store
        self._workers = workers
        self._view = planner.view
        self._clock = clock
        self._changes = changes
        self.active: set[str] = set()

    async def begin(self, stop: Stop, worker: Worker) -> None:
        """Record a stop and see it through."""
        instance = stop.instance
        self.active.add(instance.instance_id)
        log.info("stop_decided", instance=instance.instance_id, reason=stop.reason)
        await self._store.record_stop(instance, stop.reason)
        await self._finish(instance, worker)

    async def resume(self, instance: Instance, worker: Worker) -> None:
        """Carry on a stop that was recorded before."""
        self.active.add(instance.instance_id)
        await self._finish(instance, worker)

    async def stop_stranger(self, instance_id: str, worker: Worker) -> None:
        """Stop an instance that no record knows. If a later leader started it, its worker refuses."""
        self.active.add(instance_id)
        log.warning("unknown_instance_stopped", instance=instance_id, worker=worker.worker_id)
        try:
            await self._until(lambda: instance_id not in self._view.link(worker.worker_id).running, worker, instance_id)
        finally:
            self.active.discard(instance_id)

    async def _finish(self, instance: Instance, worker: Worker) -> None:
        try:
            await self._until(lambda: instance.instance_id not in self._view.instances, worker, instance.instance_id)
        finally:
            self.active.discard(instance.instance_id)
        if self._view.remove_instance(instance.instance_id) is not None:
            self._changes.note()
            await self._store.forget_instances([instance.instance_id])
            log.info("instance_stopped", instance=instance.instance_id)

    async def _until(self, is_gone: Callable[[], bool], worker: Worker, instance_id: str) -> None:
        """Ask a worker to stop an instance until it says that it has, or the instance is gone otherwise."""
        pause_seconds = _FIRST_PAUSE_SECONDS
        while not is_gone():
            try:
                return await self._workers.stop(worker, instance_id)
            except KindlingError as error:
                log.warning("stop_failed", instance=instance_id, reason=error.reason)
            await self._clock.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)
        return None

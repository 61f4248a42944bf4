"""Knowing what runs: one watch per worker, and what follows from what it says or from its silence."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing

from kindling.platform.clock import Clock
from kindling.platform.errors import KindlingError
from kindling.platform.logging import get_logger
from kindling.scheduler.changes import Changes
from kindling.scheduler.domain.planner import Planner
from kindling.scheduler.domain.values import Worker, WorkerReport
from kindling.scheduler.ports import Workers

log = get_logger(__name__)
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 1.0
Heard = Callable[[Worker, WorkerReport], None]
Lost = Callable[[str], None]


class RollCall:
    """The watches on the workers. A watch that breaks is opened again for as long as its worker is registered."""

    def __init__(
        self, workers: Workers, planner: Planner, clock: Clock, changes: Changes, heard: Heard, lost: Lost
    ) -> None:
        self._workers = workers
        self._planner = planner
        self._clock = clock
        self._changes = changes
        self._heard = heard
        self._lost = lost
        self._watches: dict[str, tuple[Worker, asyncio.Task[None]]] = {}
        self._unanswered: set[str] = set()

    def call(self, worker: Worker, tasks: asyncio.TaskGroup) -> None:
        """Watch a worker from now on; one that came back at another address is watched there."""
        known, watch = self._watches.get(worker.worker_id, (None, None))
        if known == worker and watch is not None and not watch.done():
            return
        if watch is not None:
            watch.cancel()
            self._lose_touch(worker)
        self._planner.troubles.readmit(worker.worker_id)
        self._unanswered.add(worker.worker_id)
        self._watches[worker.worker_id] = worker, tasks.create_task(self._watch(worker))

    async def all_answered(self) -> None:
        """Return once every worker called so far has answered, or could not be reached."""
        await self._changes.until(lambda: not self._unanswered)

    async def _watch(self, worker: Worker) -> None:
        pause_seconds = _FIRST_PAUSE_SECONDS
        while self._is_registered(worker):
            if await self._listen(worker):
                pause_seconds = _FIRST_PAUSE_SECONDS
            self._lose_touch(worker)
            if self._is_registered(worker):
                await self._clock.sleep(pause_seconds)
                pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)
        self._lost(worker.worker_id)

    async def _listen(self, worker: Worker) -> bool:
        """Hear a worker out until its stream breaks; true if it said anything."""
        opened_at, heard = self._clock.now(), False
        try:
            async with aclosing(self._workers.watch(worker)) as reports:
                async for report in reports:
                    if not heard:
                        self._planner.view.connect(worker.worker_id, opened_at)
                    heard = True
                    self._note(worker, report)
        except KindlingError as error:
            log.info("worker_watch_broke", worker=worker.worker_id, reason=error.reason)
        return heard

    def _note(self, worker: Worker, report: WorkerReport) -> None:
        self._unanswered.discard(worker.worker_id)
        self._heard(worker, report)
        self._changes.note()

    def _lose_touch(self, worker: Worker) -> None:
        self._unanswered.discard(worker.worker_id)
        self._planner.view.disconnect(worker.worker_id, self._clock.now())
        self._changes.note()

    def _is_registered(self, worker: Worker) -> bool:
        return self._planner.view.workers.get(worker.worker_id) == worker

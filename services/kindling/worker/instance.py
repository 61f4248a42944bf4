"""One running model: from the checkpoint's lease to the engine's end.

An instance is ready as soon as its engine is built. Its chunks may still arrive then: the engine waits for those of
each layer, and if they do not come, every generation fails with what the load failed with.
"""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

from opentelemetry import trace

from kindling.platform.clock import Clock
from kindling.platform.errors import (
    CancelledError,
    FailedPreconditionError,
    KindlingError,
    ResourceExhaustedError,
    UnavailableError,
)
from kindling.platform.logging import get_logger
from kindling.worker.build_engine import build_engine
from kindling.worker.changes import Changes, wait_at_most
from kindling.worker.checkpoint_ports import CheckpointStore, EngineFactory, OpenCheckpoint
from kindling.worker.domain.instance import (
    InstanceSpec,
    InstanceState,
    InstanceView,
    LoadProgress,
    LoadReport,
)
from kindling.worker.engine_loop import EngineLoop
from kindling.worker.liveness import tell_alive
from kindling.worker.parking import LoadedModel, Parking
from kindling.worker.startup_metrics import record_startup

log = get_logger(__name__)
tracer = trace.get_tracer(__name__)


class Instance:
    """Made when its start is asked for; ``gone`` is set when it has ended and has given back everything it held.

    ``failure`` says why it ended, if nobody stopped it.
    """

    def __init__(
        self,
        spec: InstanceSpec,
        *,
        checkpoints: CheckpointStore,
        engines: EngineFactory,
        parking: Parking,
        clock: Clock,
        on_change: Callable[[], None],
    ) -> None:
        self.spec = spec
        self.state = InstanceState.STARTING
        self.gone = asyncio.Event()
        self.failure: KindlingError | None = None
        self._checkpoints = checkpoints
        self._engines = engines
        self._parking = parking
        self._clock = clock
        self._on_change = on_change
        self._changes = Changes()
        self._progress = LoadProgress()
        self._report: LoadReport | None = None
        self._loop: EngineLoop | None = None
        self._checkpoint: OpenCheckpoint | None = None

    @property
    def view(self) -> InstanceView:
        """The instance now."""
        running = self._loop.generations if self._loop else ()
        return InstanceView(
            spec=self.spec,
            state=self.state,
            generation_ids=tuple(one.generation_id for one in running),
            report=self._report,
            tenants={one.generation_id: one.request.tenant for one in running if one.request.tenant},
            generation_tokens=tuple(one.tokens for one in running),
        )

    async def follow_start(self) -> AsyncIterator[LoadProgress | LoadReport]:
        """Tell how far the start is at every change, and end with the report of it, complete or not.

        Raises:
            KindlingError: what the start failed with, after everything it held was given back.
        """
        while self._report is None and not self.gone.is_set():
            changed = self._changes.upcoming
            yield self._progress
            await changed.wait()
        if self._report is None:
            raise self.failure or _stopped_error(self.spec)
        yield self._report

    def loop_for(self, generation_id: str) -> EngineLoop:
        """Return the loop that runs the generation already, or is to run it.

        Raises:
            FailedPreconditionError: INSTANCE_NOT_READY.
            UnavailableError: INSTANCE_STOPPING, if it does not run yet.
        """
        if self._loop is not None and generation_id in self._loop.generation_ids:
            return self._loop
        if self.state is InstanceState.STOPPING:
            raise UnavailableError(
                f"Instance {self.spec.instance_id} is stopping; ask the scheduler for another one.",
                reason="INSTANCE_STOPPING",
                metadata={"instance_id": self.spec.instance_id},
                retry_after_seconds=0.1,
            )
        return self.running_loop

    @property
    def running_loop(self) -> EngineLoop:
        """The loop that runs the instance's generations, also of one that takes no new ones.

        Raises:
            FailedPreconditionError: INSTANCE_NOT_READY.
        """
        if self._loop is None:
            raise FailedPreconditionError(
                f"Instance {self.spec.instance_id} does not run yet; wait until StartInstance says that it is ready.",
                reason="INSTANCE_NOT_READY",
                metadata={"instance_id": self.spec.instance_id},
            )
        return self._loop

    async def stop(self, grace_seconds: float | None) -> None:
        """Take no new work and return when the instance is gone.

        Running generations may end by themselves for ``grace_seconds`` (None: as long as they need), then they are
        cancelled. A start under way is given up at once, and so is a load that no generation waits for.
        """
        was_starting = self.state is InstanceState.STARTING
        self.state = InstanceState.STOPPING
        self._note_change()
        if was_starting:
            self._life.cancel()
        elif self._loop is not None and self._checkpoint is not None:
            await wait_at_most(self._loop.idle, self._clock, grace_seconds)
            self._checkpoint.give_up()
            await _end(self._loop, keep_engine=self._parking.is_open and self._is_loaded)
        await self.gone.wait()

    @property
    def _is_loaded(self) -> bool:
        return self._report is not None and self._report.complete

    def begin(self, tasks: asyncio.TaskGroup) -> None:
        """Start; the instance's whole life is a task of ``tasks``."""
        self._life = tasks.create_task(self._run())
        self._life.add_done_callback(self._mark_gone)

    async def _run(self) -> None:
        try:
            await self._live()
        except KindlingError as error:
            self.failure = error
            log.error("instance_failed", instance_id=self.spec.instance_id, reason=error.reason, message=error.message)
        else:
            log.info("instance_stopped", instance_id=self.spec.instance_id, model=self.spec.model)

    async def _live(self) -> None:
        """Start, compute until stopped, and give everything back."""
        async with AsyncExitStack() as resources:
            attributes = {"kindling.instance.id": self.spec.instance_id, "kindling.model": self.spec.model}
            began = self._clock.now()
            with tracer.start_as_current_span("worker.start_instance", attributes=attributes):
                model, loop = await self._start(resources, began)
            async with asyncio.TaskGroup() as tasks:
                load = tasks.create_task(self._finish_load(model.checkpoint, loop, began))
                alive = tasks.create_task(tell_alive(loop, self._clock, lambda: self._progress.loaded_bytes))
                await loop.stopped.wait()
                load.cancel()
                alive.cancel()
            await loop.wait_closed()
            if loop.kept_engine is not None:
                await self._parking.put(dataclasses.replace(model, lease=model.lease.pop_all()))

    async def _start(self, resources: AsyncExitStack, began: float) -> tuple[LoadedModel, EngineLoop]:
        parked = await self._parking.take(self.spec.digest)
        opened, model = self._clock.now(), parked
        if model is None:
            lease = await resources.enter_async_context(AsyncExitStack())
            checkpoint = await self._open(lease)
            opened = self._clock.now()
            model = LoadedModel(
                self.spec.digest, checkpoint, await build_engine(self._engines, self.spec, checkpoint), lease
            )
        else:
            await resources.enter_async_context(model.lease)
        loop = EngineLoop(model.engine, name=self.spec.instance_id, on_change=self._on_change)
        resources.push_async_callback(loop.close)
        resources.callback(model.checkpoint.give_up)
        now = self._clock.now()
        report = LoadReport(init_seconds=now - opened, total_seconds=now - began)
        self._become_ready(
            model.checkpoint, loop, report if parked is None else report.of_parked(model.checkpoint.size_bytes)
        )
        return model, loop

    async def _open(self, lease: AsyncExitStack) -> OpenCheckpoint:
        """Open the checkpoint; where a device has no memory left for it, parked models make room."""
        while True:
            try:
                return await lease.enter_async_context(self._checkpoints.open(self.spec.digest, self._advance))
            except ResourceExhaustedError as error:
                if error.reason != "DEVICE_MEMORY_EXHAUSTED" or not await self._parking.drop_oldest():
                    raise

    async def _finish_load(self, checkpoint: OpenCheckpoint, loop: EngineLoop, began: float) -> None:
        """Complete the report when every byte is there; without them the engine can only fail."""
        try:
            loaded = await checkpoint.loaded()
        except KindlingError as error:
            loop.fail(error)
        else:
            self._complete(loaded, self._clock.now() - began)

    def _complete(self, loaded: LoadReport, seconds: float) -> None:
        assert self._report is not None, "an instance is ready before its load is waited for"
        if not self._report.complete:
            self._report = self._report.completed(loaded, seconds)
            self._note_change()
        record_startup(self._report)
        log.info("instance_loaded", instance_id=self.spec.instance_id, seconds=self._report.total_seconds)

    def _become_ready(self, checkpoint: OpenCheckpoint, loop: EngineLoop, report: LoadReport) -> None:
        self._checkpoint = checkpoint
        self._loop = loop
        loaded = None if report.complete else checkpoint.report
        self._report = report if loaded is None else report.completed(loaded, report.total_seconds)
        self.state = InstanceState.READY
        log.info(
            "instance_started", instance_id=self.spec.instance_id, model=self.spec.model, seconds=report.total_seconds
        )
        self._note_change()

    def _advance(self, progress: LoadProgress) -> None:
        self._progress = progress
        self._changes.note()

    def _mark_gone(self, _life: asyncio.Task[None]) -> None:
        self._loop = None
        self._checkpoint = None
        self.gone.set()
        self._note_change()

    def _note_change(self) -> None:
        self._changes.note()
        self._on_change()


async def _end(loop: EngineLoop, *, keep_engine: bool) -> None:
    for generation_id in loop.generation_ids:
        loop.cancel(generation_id)
    await loop.close(keep_engine=keep_engine)


def _stopped_error(spec: InstanceSpec) -> CancelledError:
    return CancelledError(
        f"Instance {spec.instance_id} was stopped before it was ready.",
        reason="INSTANCE_STOPPED",
        metadata={"instance_id": spec.instance_id},
    )

"""Starting instances: recorded first, then begun on the worker, followed to the end."""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing, contextmanager

from opentelemetry import context as tracing
from opentelemetry import metrics, trace
from opentelemetry.util.types import AttributeValue

from kindling.platform import buckets
from kindling.platform.clock import Clock
from kindling.platform.errors import KindlingError, UnavailableError
from kindling.platform.logging import get_logger
from kindling.scheduler.changes import Changes
from kindling.scheduler.desk import Desk
from kindling.scheduler.domain.planner import Planner
from kindling.scheduler.domain.plans import Start
from kindling.scheduler.domain.values import Instance, InstanceState, LoadReport, Worker
from kindling.scheduler.estimate_error import record_estimate_error
from kindling.scheduler.ports import Store, Workers

log = get_logger(__name__)
tracer = trace.get_tracer(__name__)
meter = metrics.get_meter(__name__)
_startup = meter.create_histogram(
    "kindling.instance.startup.duration",
    unit="s",
    description="Seconds from the decision until an instance is loaded",
    explicit_bucket_boundaries_advisory=buckets.SECONDS,
)


class Starts:
    """The starts under way. Each ends in the view as a ready instance, whose load may go on, or as none."""

    def __init__(
        self, store: Store, workers: Workers, planner: Planner, desk: Desk, clock: Clock, changes: Changes, stall: float
    ) -> None:
        self._store = store
        self._workers = workers
        self._planner = planner
        self._desk = desk
        self._clock = clock
        self._changes = changes
        self._stall_seconds = stall
        self._patience: dict[str, asyncio.Timeout] = {}
        self.active: set[str] = set()

    async def begin(self, start: Start, worker: Worker, context: tracing.Context | None) -> None:
        """Record a start and follow it to its end; ``context`` is the trace of the request that needs it."""
        with self._underway(start.instance), _placement_span(start, worker, context):
            self._desk.tell_progress(start.instance, None)
            log.info("start_decided", instance=start.instance.instance_id, worker=worker.worker_id)
            await self._store.record_start(start.instance, _reason(start))
            await self._follow(start.instance, worker)

    async def resume(self, instance: Instance, worker: Worker) -> None:
        """Follow a start that is recorded already to its end."""
        with self._underway(instance):
            self._desk.tell_progress(instance, None)
            await self._follow(instance, worker)

    def abandon(self, instance_id: str) -> None:
        """Stop following a start whose worker is lost."""
        if (patience := self._patience.get(instance_id)) is not None:
            patience.reschedule(asyncio.get_running_loop().time())

    @contextmanager
    def _underway(self, instance: Instance) -> Iterator[None]:
        self.active.add(instance.instance_id)
        try:
            yield
        finally:
            self.active.discard(instance.instance_id)
            self._desk.end_progress(instance)

    async def _follow(self, instance: Instance, worker: Worker) -> None:
        known = self._planner.view.instances.get(instance.instance_id)
        if known is None or known.state is not InstanceState.STARTING:
            return  # given up while it was recorded
        try:
            report = await self._load(instance, worker)
        except KindlingError as error:
            await self._fail(instance, error)
        else:
            await self._finish(instance, report)

    async def _load(self, instance: Instance, worker: Worker) -> LoadReport:
        """Return the report with which the start ends; a start that says nothing for too long has failed."""
        try:
            async with asyncio.timeout(self._stall_seconds) as patience:
                self._patience[instance.instance_id] = patience
                return await self._events(instance, worker, patience)
        except TimeoutError:
            raise _stalled(instance, self._stall_seconds) from None
        finally:
            self._patience.pop(instance.instance_id, None)

    async def _events(self, instance: Instance, worker: Worker, patience: asyncio.Timeout) -> LoadReport:
        known = self._planner.view.workers
        others = [known[name] for name in instance.others if name in known]  # if one is gone, the instance is stopped
        async with aclosing(self._workers.start(worker, instance, others)) as events:
            async for event in events:
                if isinstance(event, LoadReport):
                    return event
                patience.reschedule(asyncio.get_running_loop().time() + self._stall_seconds)
                self._planner.view.loads.advance(instance, event, self._clock.now())
                self._desk.tell_progress(instance, event)
        raise UnavailableError(
            f"worker {worker.worker_id} ended the start of {instance.instance_id} without a result",
            reason="START_BROKEN",
            metadata={"worker_id": worker.worker_id},
        )

    async def _finish(self, instance: Instance, report: LoadReport) -> None:
        """Requests are granted at once; should we die before the record is written, a new leader asks the worker."""
        ready = self._planner.outcomes.started(instance.instance_id, report, self._clock.now())
        self._changes.note()
        if ready is not None:
            log.info("instance_started", instance=ready.instance_id, seconds=ready.ready_at - ready.started_at)
            if not ready.is_loading:
                _measure(ready)
            await self._store.record_ready(ready)

    async def finish_load(self, instance: Instance) -> None:
        """Record what the start of an instance that was ready before came to."""
        _measure(instance)
        log.info("instance_loaded", instance=instance.instance_id)
        await self._store.record_ready(instance)

    async def _fail(self, instance: Instance, error: KindlingError) -> None:
        span = trace.get_current_span()
        span.set_status(trace.StatusCode.ERROR, error.reason)
        log.warning("start_failed", instance=instance.instance_id, reason=error.reason, message=error.message)
        self._desk.refuse(self._planner.start_failed(instance.instance_id, error, self._clock.now()))
        self._changes.note()
        await self._store.forget_instances([instance.instance_id])


@contextmanager
def _placement_span(start: Start, worker: Worker, context: tracing.Context | None) -> Iterator[None]:
    attributes: dict[str, AttributeValue] = {
        "kindling.model": start.instance.model,
        "kindling.instance": start.instance.instance_id,
        "kindling.node": worker.node_id,
        "kindling.worker": worker.worker_id,
        "kindling.estimate_seconds": start.placement.seconds,
        "kindling.alternatives": [f"{other.worker_id}={other.seconds:.3f}" for other in start.alternatives],
    }
    with tracer.start_as_current_span("scheduler.place", context=context, attributes=attributes):
        yield


def _reason(start: Start) -> str:
    source = start.placement.source.name if start.placement.source else "memory"
    wanted = "a request waits" if start.request else "min_instances"
    return f"{wanted}; smallest startup time, {start.placement.seconds:.3f} s from {source}"


def _measure(instance: Instance) -> None:
    actual = instance.startup_seconds
    assert actual is not None, "a start is measured once it is complete"
    source = instance.slowest_tier
    attributes = {"start": "cold", "from": source.name if source else "none"}
    _startup.record(actual, attributes)
    record_estimate_error(instance.estimated_seconds, actual, attributes | {"of": "startup"})


def _stalled(instance: Instance, seconds: float) -> UnavailableError:
    return UnavailableError(
        f"worker {instance.worker_id} was lost or silent for {seconds:g} s while it started {instance.instance_id}",
        reason="START_STALLED",
        metadata={"instance_id": instance.instance_id, "worker_id": instance.worker_id},
    )

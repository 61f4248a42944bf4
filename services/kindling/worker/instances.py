"""What a worker runs: starts and stops instances, and finds the one that a generation belongs to."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from types import TracebackType
from typing import Self

from kindling.platform.clock import Clock
from kindling.platform.errors import AlreadyExistsError, NotFoundError, ResourceExhaustedError, UnavailableError
from kindling.worker.changes import Changes
from kindling.worker.checkpoint_ports import CheckpointStore, EngineFactory
from kindling.worker.domain.generation import CaughtUp, GenerationRequest
from kindling.worker.domain.instance import InstanceSpec, InstanceState, LoadProgress, LoadReport, WorkerView
from kindling.worker.domain.migration import TakenOver
from kindling.worker.instance import Instance
from kindling.worker.parking import Parking, ParkingLimits
from kindling.worker.receive import Message, drop_unclaimed, follow_source
from kindling.worker.stream import Event

WATCH_INTERVAL_SECONDS = 0.05
ORPHAN_SECONDS = 10.0
NO_PARKING = ParkingLimits()


class Instances:
    """The instances of one worker, by id; usable inside ``async with``, whose end stops whatever still runs at once.

    A generation that was received and has no reader is dropped after ``orphan_seconds``.
    """

    def __init__(
        self,
        *,
        slots: int,
        checkpoints: CheckpointStore,
        engines: EngineFactory,
        clock: Clock,
        parking: ParkingLimits = NO_PARKING,
        orphan_seconds: float = ORPHAN_SECONDS,
    ) -> None:
        self._slots = slots
        self._checkpoints = checkpoints
        self._engines = engines
        self._clock = clock
        self._orphan_seconds = orphan_seconds
        self._instances: dict[str, Instance] = {}
        self._changes = Changes()
        self._draining = False
        self._tasks = asyncio.TaskGroup()
        self._parking = Parking(parking, self._tasks, self._changes.note)

    @property
    def view(self) -> WorkerView:
        """What the worker runs now."""
        instances = tuple(instance.view for instance in self._instances.values())
        return WorkerView(instances, self._draining, self._parking.view)

    async def start(self, spec: InstanceSpec) -> AsyncIterator[LoadProgress | LoadReport]:
        """Start an instance, or join the start of it; yield progress and, last, the report.

        Leaving early changes nothing about the start.

        Raises:
            ResourceExhaustedError: NO_FREE_SLOT.
            AlreadyExistsError: INSTANCE_EXISTS, if the id belongs to an instance of another checkpoint.
            UnavailableError: WORKER_DRAINING or INSTANCE_STOPPING.
            KindlingError: what the start failed with.
        """
        instance = self._find_same(spec) or self._begin(spec)
        async for event in instance.follow_start():
            yield event

    async def stop(self, instance_id: str, grace_seconds: float | None) -> None:
        """Return when the instance is gone; see ``Instance.stop``. The stop goes on if the caller gives up waiting."""
        instance = self._instances.get(instance_id)
        if instance is not None:
            await asyncio.wait({self._tasks.create_task(instance.stop(grace_seconds))})

    def get(self, instance_id: str) -> Instance:
        """Return an instance.

        Raises:
            NotFoundError: INSTANCE_UNKNOWN.
        """
        instance = self._instances.get(instance_id)
        if instance is None:
            raise NotFoundError(
                f"Instance {instance_id!r} does not run here; ask the scheduler where it is.",
                reason="INSTANCE_UNKNOWN",
                metadata={"instance_id": instance_id},
            )
        return instance

    def generate(self, instance_id: str, request: GenerationRequest) -> AsyncGenerator[list[Event], None]:
        """Run a generation; see ``EngineLoop.generate``.

        Raises:
            NotFoundError: INSTANCE_UNKNOWN.
            FailedPreconditionError: INSTANCE_NOT_READY.
            UnavailableError: INSTANCE_STOPPING.
        """
        return self.get(instance_id).loop_for(request.generation_id).generate(request)

    async def receive(
        self, instance_id: str, request: GenerationRequest, messages: AsyncIterator[Message]
    ) -> AsyncGenerator[CaughtUp | TakenOver, None]:
        """Receive a generation from another worker; see ``follow_source``.

        However that ends, the generation is dropped if no reader comes for it within a while.

        Raises:
            KindlingError: what ``generate`` raises, and ``follow_source``; AlreadyExistsError GENERATION_EXISTS.
        """
        instance = self.get(instance_id)
        loop = instance.loop_for(request.generation_id)
        stream = loop.receive(request)
        try:
            async with aclosing(follow_source(loop, stream, messages)) as answers:
                async for answer in answers:
                    yield answer
        finally:
            self._tasks.create_task(drop_unclaimed(loop, stream, self._clock, self._orphan_seconds))

    async def watch(self) -> AsyncIterator[WorkerView]:
        """Yield the view now and after changes, at most every 50 ms; the last one is the first of a draining worker."""
        while True:
            changed = self._changes.upcoming
            view = self.view
            yield view
            if view.draining:
                return
            await self._clock.sleep(WATCH_INTERVAL_SECONDS)
            await changed.wait()

    async def drain(self, grace_seconds: float) -> None:
        """Take nothing new and return when every instance is gone, its generations ended or cancelled after a grace.

        Nothing stays parked.
        """
        self._draining = True
        self._changes.note()
        await self._parking.close()
        async with asyncio.TaskGroup() as tasks:
            for instance in list(self._instances.values()):
                tasks.create_task(instance.stop(grace_seconds))

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.drain(0.0)
        await self._tasks.__aexit__(kind, error, trace)

    def _find_same(self, spec: InstanceSpec) -> Instance | None:
        instance = self._instances.get(spec.instance_id)
        if instance is None:
            return None
        if instance.spec != spec:
            raise AlreadyExistsError(
                f"Instance {spec.instance_id} runs {instance.spec.model} here; choose another id.",
                reason="INSTANCE_EXISTS",
                metadata={"instance_id": spec.instance_id, "checkpoint_digest": instance.spec.digest},
            )
        if instance.state is InstanceState.STOPPING:
            raise UnavailableError(
                f"Instance {spec.instance_id} is stopping; start one with another id.",
                reason="INSTANCE_STOPPING",
                metadata={"instance_id": spec.instance_id},
            )
        return instance

    def _begin(self, spec: InstanceSpec) -> Instance:
        self._require_room()
        instance = Instance(
            spec,
            checkpoints=self._checkpoints,
            engines=self._engines,
            parking=self._parking,
            clock=self._clock,
            on_change=self._note_change,
        )
        self._instances[spec.instance_id] = instance
        instance.begin(self._tasks)
        self._note_change()
        return instance

    def _require_room(self) -> None:
        if self._draining:
            raise UnavailableError(
                "The worker is draining; start the instance on another one.", reason="WORKER_DRAINING"
            )
        if len(self._instances) >= self._slots:
            raise ResourceExhaustedError(
                f"All {self._slots} slots of the worker are taken; stop an instance first or choose another worker.",
                reason="NO_FREE_SLOT",
                metadata={"slots": str(self._slots), "instances": ",".join(self._instances)},
            )

    def _note_change(self) -> None:
        for instance in list(self._instances.values()):
            if instance.gone.is_set():
                del self._instances[instance.spec.instance_id]
        self._changes.note()

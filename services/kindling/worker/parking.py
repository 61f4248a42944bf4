"""Models whose instances stopped, kept ready for the next start while nothing else needs the memory."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from kindling.platform.errors import KindlingError
from kindling.platform.logging import get_logger
from kindling.worker.checkpoint_ports import OpenCheckpoint
from kindling.worker.domain.instance import ParkedCheckpoint
from kindling.worker.ports import Engine

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ParkingLimits:
    """How many models may be parked, and how many bytes of weights; None: as much as those who lend it allow."""

    models: int = 0
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A checkpoint that is all there and the engine built on it, which has nothing to do; ``lease`` ends with both."""

    digest: str
    checkpoint: OpenCheckpoint
    engine: Engine
    lease: AsyncExitStack

    async def drop(self) -> None:
        """Give everything back."""
        self.engine.close()
        await self.lease.aclose()


class Parking:
    """Parked models by checkpoint, the one parked longest first; that one goes first when the limits are reached.

    ``tasks`` watches for the owner of the memory taking it back: the model is dropped at once then.
    """

    def __init__(self, limits: ParkingLimits, tasks: asyncio.TaskGroup, on_change: Callable[[], None]) -> None:
        self._limits = limits
        self._tasks = tasks
        self._on_change = on_change
        self._models: dict[str, LoadedModel] = {}
        self._watches: dict[str, asyncio.Task[None]] = {}

    @property
    def is_open(self) -> bool:
        """Whether anything can be parked at all."""
        return self._limits.models > 0

    @property
    def view(self) -> tuple[ParkedCheckpoint, ...]:
        """What is parked now."""
        return tuple(ParkedCheckpoint(model.digest, model.checkpoint.size_bytes) for model in self._models.values())

    async def put(self, model: LoadedModel) -> None:
        """Park the model, or drop it if that cannot be; others go if the limits say so."""
        try:
            await model.checkpoint.park()
        except KindlingError as error:
            log.warning("parking_refused", digest=model.digest, reason=error.reason, message=error.message)
            await model.drop()
            return
        earlier = self._remove(model.digest)
        self._models[model.digest] = model
        self._watches[model.digest] = self._tasks.create_task(self._watch(model))
        log.info("model_parked", digest=model.digest, bytes=model.checkpoint.size_bytes)
        self._on_change()
        if earlier is not None:
            await earlier.drop()
        while self._over_limits() and await self.drop_oldest():
            pass

    async def take(self, digest: str) -> LoadedModel | None:
        """Return the parked model of a checkpoint, no longer parked; None if there is none, or it was taken back."""
        model = self._remove(digest)
        if model is None:
            return None
        self._on_change()
        try:
            await model.checkpoint.unpark()
        except KindlingError as error:
            log.info("parked_model_lost", digest=digest, reason=error.reason)
            await model.drop()
            return None
        except asyncio.CancelledError:
            await model.drop()
            raise
        return model

    async def drop_oldest(self) -> bool:
        """Drop the model that has been parked longest; False if there is none."""
        digest = next(iter(self._models), None)
        if digest is None:
            return False
        await self._drop(self._models[digest])
        return True

    async def close(self) -> None:
        """Drop everything, and park nothing any more."""
        self._limits = ParkingLimits()
        while await self.drop_oldest():
            pass

    async def _watch(self, model: LoadedModel) -> None:
        await model.checkpoint.taken_back.wait()
        await self._drop(model)

    async def _drop(self, model: LoadedModel) -> None:
        if self._models.get(model.digest) is model:
            self._remove(model.digest)
            log.info("parked_model_dropped", digest=model.digest)
            self._on_change()
            await model.drop()

    def _remove(self, digest: str) -> LoadedModel | None:
        model = self._models.pop(digest, None)
        if model is not None and (watch := self._watches.pop(digest)) is not asyncio.current_task():
            watch.cancel()
        return model

    def _over_limits(self) -> bool:
        size_bytes = sum(model.checkpoint.size_bytes for model in self._models.values())
        most_bytes = self._limits.size_bytes
        return len(self._models) > self._limits.models or (most_bytes is not None and size_bytes > most_bytes)

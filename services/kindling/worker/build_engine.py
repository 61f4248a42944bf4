"""Builds an engine on a thread of its own, while its checkpoint arrives."""

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor

from opentelemetry import trace

from kindling.platform.errors import InternalError, KindlingError
from kindling.worker.checkpoint_ports import EngineFactory, OpenCheckpoint
from kindling.worker.domain.instance import InstanceSpec
from kindling.worker.ports import Engine

tracer = trace.get_tracer(__name__)


async def build_engine(engines: EngineFactory, spec: InstanceSpec, checkpoint: OpenCheckpoint) -> Engine:
    """Return the engine of an instance.

    Cancelling gives the checkpoint's load up and leaves nothing behind.

    Raises:
        KindlingError: what the factory raises; InternalError ENGINE_BUILD_FAILED for anything else.
    """
    with tracer.start_as_current_span("worker.build_engine"), ThreadPoolExecutor(1, "build") as executor:
        building = executor.submit(engines.build, spec, checkpoint)
        try:
            await asyncio.wait({asyncio.wrap_future(building)})
        except asyncio.CancelledError:
            checkpoint.give_up()
            await asyncio.wait({asyncio.wrap_future(building)})
            _discard(building)
            raise
        return _engine_of(building)


def _engine_of(building: Future[Engine]) -> Engine:
    """Return the engine, or raise why there is none as a typed error."""
    cause = building.exception()
    if cause is None or isinstance(cause, KindlingError):
        return building.result()
    raise InternalError(
        f"The model could not be built ({type(cause).__name__}: {cause}).",
        reason="ENGINE_BUILD_FAILED",
        metadata={"cause": type(cause).__name__},
    ) from cause


def _discard(building: Future[Engine]) -> None:
    if building.exception() is None:
        building.result().close()

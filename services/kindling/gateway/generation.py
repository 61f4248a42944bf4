"""How a generation runs: the one place that knows, for HTTP and gRPC alike."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from kindling.gateway.background import Background
from kindling.gateway.domain.events import Finished, FinishReason, Granted, TokenBatch, Waiting
from kindling.gateway.ports import Generation, Scheduler, Workers
from kindling.platform.errors import InternalError, KindlingError, UnavailableError
from kindling.platform.logging import get_logger

log = get_logger("kindling.gateway")
Step = Waiting | Granted | TokenBatch | Finished
# Errors that another instance may not have: the worker died, or the instance ended between grant and call.
_INSTANCE_GONE = frozenset({"INSTANCE_UNKNOWN", "INSTANCE_NOT_READY", "INSTANCE_STOPPED", "RPC_CANCELLED"})


class Generations:
    """Runs generations: asks for a place, streams tokens from there, gives the place back.

    When a worker is lost, the generation goes on elsewhere after the tokens it has emitted, at most
    ``resume_attempts`` times.
    """

    def __init__(
        self, scheduler: Scheduler, workers: Workers, background: Background, *, resume_attempts: int = 3
    ) -> None:
        self._scheduler = scheduler
        self._workers = workers
        self._background = background
        self._resume_attempts = resume_attempts

    async def run(self, generation: Generation) -> AsyncGenerator[Step]:
        """Yield what happens, and at last ``Finished``; leaving early cancels the generation everywhere.

        ``generation.emitted`` grows with every batch before it is yielded.
        """
        for attempts_left in range(self._resume_attempts, -1, -1):
            progress = _Attempt(generation)
            try:
                async with aclosing(self._attempt(progress)) as steps:
                    async for step in steps:
                        yield step
                return
            except KindlingError as error:
                if progress.place is None or not attempts_left or not _elsewhere_may_work(error):
                    raise
                log.warning("generation_resumed", generation_id=generation.generation_id, reason=error.reason)
                # Before the next attempt asks: grants are known by the generation's id.
                await self._release(generation, progress.place)
                progress.place = None
            finally:
                if progress.place is not None:
                    self._background.start(self._release(generation, progress.place))

    async def _attempt(self, attempt: "_Attempt") -> AsyncGenerator[Step]:
        generation = attempt.generation
        async with aclosing(self._scheduler.acquire(generation)) as offers:
            async for offer in offers:
                if isinstance(offer, Granted):
                    attempt.place = offer
                yield offer
        if attempt.place is None:
            raise InternalError("The scheduler ended without a grant.", reason="GRANT_MISSING")
        async with aclosing(self._workers.generate(attempt.place, generation)) as batches:
            async for batch in batches:
                if isinstance(batch, TokenBatch):
                    _record(generation, batch)
                else:
                    _require_end(batch)
                yield batch

    async def _release(self, generation: Generation, place: Granted) -> None:
        try:
            await self._scheduler.release(generation.generation_id, place.instance_id)
        except KindlingError as error:
            # The scheduler learns from the worker that the generation is gone.
            log.warning("release_failed", generation_id=generation.generation_id, reason=error.reason)


@dataclass(slots=True)
class _Attempt:
    """One try at a generation, and the place it was granted."""

    generation: Generation
    place: Granted | None = None


def _record(generation: Generation, batch: TokenBatch) -> None:
    if batch.position != len(generation.emitted):
        raise InternalError(
            f"The worker sent position {batch.position} where {len(generation.emitted)} was due.", reason="TOKENS_LOST"
        )
    generation.emitted += batch.token_ids


def _require_end(finished: Finished) -> None:
    if finished.reason is FinishReason.CANCELLED:
        raise UnavailableError("The worker cancelled the generation.", reason="GENERATION_CANCELLED")


def _elsewhere_may_work(error: KindlingError) -> bool:
    return isinstance(error, UnavailableError) or error.reason in _INSTANCE_GONE

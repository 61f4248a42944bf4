"""One attempt at a generation: in the place that the scheduler finds, and from there on wherever it is moved to."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from kindling.gateway.domain.events import Finished, FinishReason, Granted, Migrated, Moved, MoveKind, Place, Step
from kindling.gateway.ports import Generation, Scheduler, Workers
from kindling.platform.errors import InternalError, UnavailableError


class Attempts:
    """Makes attempts."""

    def __init__(self, scheduler: Scheduler, workers: Workers) -> None:
        self._scheduler = scheduler
        self._workers = workers

    async def make(self, generation: Generation, avoid: frozenset[str]) -> AsyncGenerator[Step, None]:
        """Run the generation from where it stands, in none of the instances in ``avoid`` if there is another.

        Yields what it waits for, ``Granted``, and what its workers say; ends with exactly one ``Finished``. Tokens must
        be in ``generation.emitted`` before the next step is asked for: the worker it moves to is told of them.
        """
        here: Place | None = None
        async with aclosing(self._scheduler.acquire(generation, avoid)) as offers:
            async for offer in offers:
                if isinstance(offer, Granted):
                    here = offer.place
                yield offer
        if here is None:
            raise InternalError("The scheduler ended without a grant.", reason="GRANT_MISSING")
        while here is not None:
            target: Place | None = None
            async with aclosing(self._workers.generate(here, generation)) as events:
                async for event in events:
                    if isinstance(event, Migrated):
                        target = event.target
                        yield Moved(MoveKind.MIGRATED, here, target, len(generation.emitted))
                    else:
                        _require_end(event)
                        yield event
            here = target


def _require_end(event: Step) -> None:
    if isinstance(event, Finished) and event.reason is FinishReason.CANCELLED:
        raise UnavailableError("The worker cancelled the generation.", reason="GENERATION_CANCELLED")

"""How a generation runs: the one place that knows, for HTTP and gRPC alike."""

import functools
from collections.abc import AsyncGenerator
from contextlib import aclosing

from kindling.gateway.attempt import Attempts
from kindling.gateway.background import Background
from kindling.gateway.domain.events import Granted, Moved, MoveKind, Place, Step
from kindling.gateway.domain.resume_budget import ResumeBudget, ResumeLimits, SharedBudget
from kindling.gateway.hedge import Race
from kindling.gateway.ports import Generation, Scheduler, Workers
from kindling.gateway.telemetry import note_move
from kindling.platform.backoff import Backoff
from kindling.platform.clock import Clock
from kindling.platform.errors import KindlingError, UnavailableError
from kindling.platform.logging import get_logger

log = get_logger("kindling.gateway")
# Errors that another instance may not have: this one's worker died, or it ended between grant and call, or the worker
# has not noticed yet that an earlier call for the generation is over.
_INSTANCE_GONE = frozenset(
    {
        "ENGINE_FAILED",
        "GENERATION_EXISTS",
        "INSTANCE_NOT_READY",
        "INSTANCE_STOPPED",
        "INSTANCE_UNKNOWN",
        "RPC_CANCELLED",
    }
)


class Generations:
    """Runs generations: asks for a place, streams tokens from there, gives the place back.

    Readers do not notice what becomes of workers: a generation that is moved is followed; one whose worker is lost goes
    on elsewhere after the tokens it has emitted, at once, and after pauses when that is lost, too, as ``limits`` allow;
    while there is no room for it, it waits; one whose worker is silent is tried elsewhere meanwhile.
    """

    def __init__(
        self, scheduler: Scheduler, workers: Workers, background: Background, clock: Clock, limits: ResumeLimits
    ) -> None:
        self._scheduler = scheduler
        self._attempts = Attempts(scheduler, workers)
        self._background = background
        self._clock = clock
        self._limits = limits
        self._shared = SharedBudget(limits, clock.now())

    async def run(self, generation: Generation) -> AsyncGenerator[Step, None]:
        """Yield what happens, and at last ``Finished``; leaving early cancels the generation everywhere.

        ``generation.emitted`` grows with every batch before it is yielded.
        """
        self._shared.earn()
        course = _Course(generation, ResumeBudget(self._limits, self._shared), self._clock)
        try:
            while True:
                race = self._race(generation, course.avoid)
                try:
                    async with aclosing(race.run()) as steps:
                        async for step in steps:
                            yield step
                            if (move := course.follow(step)) is not None:
                                yield move
                    return
                except KindlingError as error:
                    if course.place is None:
                        raise
                    if error.reason == "QUEUE_FULL":
                        await course.wait_for_room(error)
                    elif _elsewhere_may_work(error):
                        await course.resume(error, race.troubled)
                    else:
                        raise
        finally:
            if course.place is not None:
                self._background.start(self._release(generation, course.place))

    def _race(self, generation: Generation, avoid: frozenset[str]) -> Race:
        return Race(
            generation,
            functools.partial(self._attempts.make, generation),
            self._background,
            self._clock,
            avoid=avoid,
            silence_seconds=self._limits.silence_seconds,
            hung_seconds=self._limits.hung_seconds,
            may_hedge=lambda: self._shared.take(self._clock.now()),
        )

    async def _release(self, generation: Generation, place: Place) -> None:
        try:
            await self._scheduler.release(generation.generation_id, place.instance_id)
        except KindlingError as error:
            # The scheduler learns from the worker that the generation is gone.
            log.warning("release_failed", generation_id=generation.generation_id, reason=error.reason)


class _Course:
    """Where a generation is, how it came there, and what it may still try.

    ``place`` is None until the first grant. ``avoid`` are instances in which it got into trouble lately.
    """

    def __init__(self, generation: Generation, budget: ResumeBudget, clock: Clock) -> None:
        self.place: Place | None = None
        self.avoid: frozenset[str] = frozenset()
        self._generation = generation
        self._budget = budget
        self._clock = clock
        self._backoff = Backoff(clock)
        self._resumed_at = 0

    def follow(self, step: Step) -> Moved | None:
        """Note the place that a step tells of; returns the move that a grant means if it is not the first one."""
        if isinstance(step, Moved):
            self._move(step)
        elif isinstance(step, Granted):
            self._budget.granted()
            if self.place is not None:
                resumed = Moved(MoveKind.RESUMED, self.place, step.place, self._resumed_at)
                self._move(resumed)
                return resumed
            self.place = step.place
        return None

    async def wait_for_room(self, error: KindlingError) -> None:
        """Pause before asking for a place again; raises if the generation has waited for one as long as it may."""
        self._budget.refused(error, self._clock.now())
        await self._backoff.pause()

    def _move(self, move: Moved) -> None:
        self.place = move.target
        note_move(self._generation.generation_id, move)

    async def resume(self, error: KindlingError, troubled: set[str]) -> None:
        """Get ready to go on elsewhere: at once, unless that was tried in vain just now. Raises if it is no use."""
        self._resumed_at = len(self._generation.emitted)
        progressed = self._budget.broke_off(self._resumed_at, error, self._clock.now())
        self.avoid = frozenset(troubled) if progressed else self.avoid | troubled
        log.warning(
            "generation_broke_off",
            generation_id=self._generation.generation_id,
            position=self._resumed_at,
            attempt=self._budget.in_a_row,
            reason=error.reason,
        )
        if self._budget.in_a_row > 1:
            await self._backoff.pause()
        else:
            self._backoff.reset()


def _elsewhere_may_work(error: KindlingError) -> bool:
    return isinstance(error, UnavailableError) or error.reason in _INSTANCE_GONE

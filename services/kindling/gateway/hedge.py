"""Liveness by progress: when a worker goes silent, a second one is tried while the first is listened to."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from kindling.gateway.background import Background
from kindling.gateway.domain.events import Alive, Finished, Granted, Moved, MoveKind, Place, Step, TokenBatch
from kindling.gateway.ports import Generation
from kindling.platform.clock import Clock
from kindling.platform.errors import DeadlineExceededError, InternalError

MOST_AT_ONCE = 2
# Who wakes up later than this hung himself, and has yet to read what came meanwhile.
LATE_SECONDS = 0.5
Attempt = Callable[[frozenset[str]], AsyncGenerator[Step, None]]


class _Runner:
    """An attempt under way, and the place that it runs in once it has one."""

    __slots__ = ("place", "task")

    def __init__(self) -> None:
        self.place: Place | None = None
        self.task: asyncio.Task[None]


class Race:
    """One generation, run by one attempt, or by two while the first one's worker is silent.

    An attempt is silent when neither tokens nor signs of life have come for ``silence_seconds`` since it had its place;
    then ``may_hedge`` is asked, and a second attempt looks for a place elsewhere. Whichever brings the next token goes
    on alone, and the other one is cancelled; if one fails, the other one goes on. If both are silent, a third takes the
    place of the first as soon as it has found one of its own. If all that run have been silent for ``hung_seconds``,
    and none of them is new, the race fails with WORKERS_SILENT. All go on from the same tokens, and each token is
    recorded as it arrives: none is repeated and none is lost.

    ``troubled`` are the instances where this race's attempts failed or went silent; further ones avoid these and those
    in ``avoid``.
    """

    def __init__(
        self,
        generation: Generation,
        attempt: Attempt,
        background: Background,
        clock: Clock,
        *,
        avoid: frozenset[str],
        silence_seconds: float,
        hung_seconds: float,
        may_hedge: Callable[[], bool],
    ) -> None:
        self.troubled: set[str] = set()
        self._generation = generation
        self._attempt = attempt
        self._background = background
        self._clock = clock
        self._avoid = avoid
        self._silence_seconds = silence_seconds
        self._hung_seconds = hung_seconds
        self._may_hedge = may_hedge
        self._heard_at = clock.now()
        self._hope_since = clock.now()  # when a worker last gave a sign of life, or a new one was found
        self._watch: asyncio.Task[None] | None = None
        self._outbox: asyncio.Queue[Step | BaseException] = asyncio.Queue()
        self._running: list[_Runner] = []  # the one that entered first is first
        self._leader: _Runner  # the one whose steps the reader gets

    async def run(self) -> AsyncGenerator[Step, None]:
        """Yield what happens, and at last ``Finished``; raise what the last attempt fails with. Leaving cancels all."""
        self._leader = self._enter()
        try:
            while True:
                step = await self._outbox.get()
                if isinstance(step, BaseException):
                    raise step
                yield step
                if isinstance(step, Finished):
                    return
        finally:
            self._cancel(self._running)
            if self._watch is not None:
                self._watch.cancel()

    # Attempts come and go

    def _enter(self) -> _Runner:
        runner = _Runner()
        self._running.append(runner)
        runner.task = self._background.start(self._pump(runner))
        runner.task.add_done_callback(lambda task: self._ended(runner, task))
        return runner

    async def _pump(self, runner: _Runner) -> None:
        async with aclosing(self._attempt(self._avoid | self.troubled)) as steps:
            async for step in steps:
                if runner in self._running:
                    self._take(runner, step)
                if runner not in self._running:
                    return

    def _cancel(self, runners: list[_Runner]) -> None:
        self._running = [runner for runner in self._running if runner not in runners]
        for runner in runners:
            runner.task.cancel()

    def _ended(self, runner: _Runner, task: asyncio.Task[None]) -> None:
        """One that failed by itself leaves the race to the other; if it was the last, the race has failed."""
        if runner not in self._running:
            return
        self._running.remove(runner)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None and runner.place is not None:
            self.troubled.add(runner.place.instance_id)
        if error is not None and not self._running:
            self._outbox.put_nowait(error)

    # What they bring

    def _take(self, runner: _Runner, step: Step) -> None:
        self._heard_at = self._clock.now()
        if isinstance(step, TokenBatch | Alive | Moved):
            self._hope_since = self._heard_at
        if isinstance(step, TokenBatch):
            self._require_next(step)
            self._win(runner)
            self._generation.emitted += step.token_ids
        elif isinstance(step, Finished):
            self._win(runner)
        elif isinstance(step, Granted | Moved):
            self._settle(runner, step.place if isinstance(step, Granted) else step.target)
        if runner is self._leader and runner in self._running and not isinstance(step, Alive):
            self._outbox.put_nowait(step)

    def _require_next(self, batch: TokenBatch) -> None:
        due = len(self._generation.emitted)
        if batch.position != due:
            raise InternalError(f"The worker sent position {batch.position} where {due} was due.", reason="TOKENS_LOST")

    def _win(self, winner: _Runner) -> None:
        if len(self._running) > 1:
            self._cancel([runner for runner in self._running if runner is not winner])
        if winner is not self._leader:
            assert self._leader.place is not None
            assert winner.place is not None
            position = len(self._generation.emitted)
            self._outbox.put_nowait(Moved(MoveKind.HEDGED, self._leader.place, winner.place, position))
            self._leader = winner

    def _settle(self, runner: _Runner, place: Place) -> None:
        """Note where an attempt runs now; if another one runs there already, this one is of no use."""
        if any(other.place == place for other in self._running if other is not runner):
            self._running.remove(runner)
            return
        runner.place = place
        if place.instance_id not in self.troubled:
            self._hope_since = self._clock.now()
        if len(self._running) > MOST_AT_ONCE:
            self._cancel(self._running[:1])
        if self._watch is None and self._silence_seconds:
            self._watch = self._background.start(self._watch_silence())

    # The hedge

    async def _watch_silence(self) -> None:
        while True:
            due = self._heard_at + self._silence_seconds
            await self._clock.sleep(due - self._clock.now())
            now = self._clock.now()
            if now - self._heard_at >= self._silence_seconds:
                self._heard_at = now  # whatever comes of the hedge, it has as long
                if now - due < LATE_SECONDS:
                    self._hedge()

    def _hedge(self) -> None:
        silent = [runner.place.instance_id for runner in self._running if runner.place is not None]
        if not silent or len(silent) < len(self._running):
            return
        silent_seconds = self._clock.now() - self._hope_since
        if silent_seconds >= self._hung_seconds:
            self._outbox.put_nowait(_all_silent(silent, silent_seconds))
        elif self._may_hedge():
            self.troubled.update(silent)
            self._enter()


def _all_silent(instance_ids: list[str], seconds: float) -> DeadlineExceededError:
    names = ", ".join(instance_ids)
    return DeadlineExceededError(
        f"Every worker that was tried has been silent for {seconds:.0f} s, at last the instances {names}; see "
        "`kindling status` and these workers' logs, restart the workers that hang, and send the request again.",
        reason="WORKERS_SILENT",
        metadata={"instances": names},
    )

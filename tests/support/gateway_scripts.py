"""Workers that act out scripts and a scheduler that grants places in turn, in memory and under a clock that jumps."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from kindling.gateway.background import Background
from kindling.gateway.domain.events import (
    Alive,
    Finished,
    FinishReason,
    Granted,
    Migrated,
    Moved,
    Place,
    Queued,
    StartKind,
    Step,
    TokenBatch,
)
from kindling.gateway.domain.request import Sampling
from kindling.gateway.domain.resume_budget import ResumeLimits
from kindling.gateway.generation import Generations
from kindling.gateway.ports import Generation
from kindling.platform.errors import KindlingError, UnavailableError
from support.scheduler_clock import ManualClock

FOREVER = float("inf")
TURNS = 200
MOST_JUMPS = 2000
TOTAL = 12
EVERY_POSITION = range(TOTAL + 1)


@dataclass(frozen=True)
class Emit:
    """Send that many tokens in one batch."""

    tokens: int


@dataclass(frozen=True)
class Live:
    """Send a sign of life."""


@dataclass(frozen=True)
class Pause:
    """Send nothing for a while."""

    seconds: float


@dataclass(frozen=True)
class MoveTo:
    """Hand the generation over."""

    instance_id: str


@dataclass(frozen=True)
class Die:
    """Break off."""

    reason: str = "RPC_UNAVAILABLE"


Action = Emit | Live | Pause | MoveTo | Die
Script = Sequence[Action]


class JumpingClock(ManualClock):
    """A clock that a test moves on to the next moment at which somebody wants to wake up."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await super().sleep(seconds)

    def jump(self) -> None:
        assert self._sleepers, "everybody waits and nobody will wake up"
        wake_at = self._sleepers[0][0]
        assert wake_at < FOREVER, "everybody waits for ever"
        self.advance(max(0.0, wake_at - self._now))


async def settle() -> None:
    """Let everything run that can: in memory, nothing takes more turns than these."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


def place_of(instance_id: str) -> Place:
    return Place(instance_id, f"worker-of-{instance_id}:1")


def token_at(position: int) -> int:
    return 1000 + position


WHOLE = [token_at(position) for position in range(TOTAL)]


@dataclass
class Call:
    """One call of Generate; ``ended`` says that it came to its end rather than being left."""

    instance_id: str
    emitted: int
    ended: bool = False
    closed: bool = False


class ScriptedWorkers:
    """Each call plays the next script of its instance; then, or without one, the rest of the tokens and the end."""

    def __init__(self, clock: JumpingClock, total: int, scripts: dict[str, list[Script]]) -> None:
        self.calls: list[Call] = []
        self._clock = clock
        self._total = total
        self._scripts = scripts

    async def generate(
        self, place: Place, generation: Generation
    ) -> AsyncGenerator[TokenBatch | Alive | Migrated | Finished, None]:
        assert generation.emitted == [token_at(position) for position in range(len(generation.emitted))]
        call = Call(place.instance_id, len(generation.emitted))
        self.calls.append(call)
        scripts = self._scripts.get(place.instance_id)
        script = scripts.pop(0) if scripts else []
        try:
            async for event in self._play([*script, Emit(self._total)], call.emitted):
                call.ended = isinstance(event, Migrated | Finished)
                yield event
        except KindlingError:
            call.ended = True
            raise
        finally:
            call.closed = True

    async def _play(
        self, script: Script, position: int
    ) -> AsyncGenerator[TokenBatch | Alive | Migrated | Finished, None]:
        for action in script:
            await asyncio.sleep(0)
            match action:
                case Emit(tokens):
                    batch = range(position, min(self._total, position + tokens))
                    position += len(batch)
                    if batch:
                        yield TokenBatch(batch.start, tuple(map(token_at, batch)))
                case Live():
                    yield Alive()
                case Pause(seconds):
                    await self._clock.sleep(seconds)
                case MoveTo(instance_id):
                    yield Migrated(place_of(instance_id))
                    return
                case Die(reason):
                    raise UnavailableError("gone", reason=reason)
        yield Finished(FinishReason.LENGTH)


class TurnScheduler:
    """Grants the first instance that is not to be avoided, or the first one of all if ``yields``, or nothing."""

    def __init__(self, instances: Sequence[str]) -> None:
        self.instances = list(instances)
        self.yields = True
        self.refusals: list[KindlingError | None] = []
        self.asked: list[frozenset[str]] = []
        self.waiting = 0
        self.grants: dict[str, str] = {}
        self.released: list[str] = []

    async def acquire(self, generation: Generation, avoid: frozenset[str]) -> AsyncGenerator[Queued | Granted, None]:
        self.asked.append(avoid)
        await asyncio.sleep(0)
        if self.refusals and (refusal := self.refusals.pop(0)) is not None:
            raise refusal
        elsewhere = [name for name in self.instances if name not in avoid]
        if not elsewhere and not self.yields:
            yield Queued(0)
            await self._wait()
        granted = self.grants.get(generation.generation_id, "")
        if granted in avoid or not granted:
            granted = self.grants[generation.generation_id] = [*elsewhere, *self.instances][0]
        yield Granted(place_of(granted), StartKind.WARM)

    async def release(self, generation_id: str, instance_id: str) -> None:
        await asyncio.sleep(0)
        del self.grants[generation_id]
        self.released.append(instance_id)

    async def _wait(self) -> None:
        self.waiting += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.waiting -= 1


@dataclass
class Stage:
    """A gateway's part that runs generations, in front of scripted peers."""

    clock: JumpingClock
    scheduler: TurnScheduler
    workers: ScriptedWorkers
    background: Background
    generations: Generations
    generation: Generation = field(
        default_factory=lambda: Generation("g", "m", (1, 2, 3), Sampling(seed=1, max_tokens=100), [])
    )

    async def play(self) -> list[Step]:
        """Run the generation to its end, making time pass whenever nothing else happens."""
        reading = asyncio.ensure_future(self.read())
        try:
            for _ in range(MOST_JUMPS):
                await settle()
                if reading.done():
                    return await reading
                self.clock.jump()
            raise AssertionError("time goes by and the generation does not end")
        finally:
            reading.cancel()

    async def read(self) -> list[Step]:
        """Run the generation to its end."""
        return [step async for step in self.generations.run(self.generation)]

    @property
    def route(self) -> list[tuple[str, int]]:
        """Every call: where, and after how many tokens."""
        return [(call.instance_id, call.emitted) for call in self.workers.calls]

    @property
    def left(self) -> list[str]:
        """Instances whose call was left before its end."""
        return [call.instance_id for call in self.workers.calls if not call.ended]


@asynccontextmanager
async def stage(
    scripts: dict[str, list[Script]],
    *,
    instances: Sequence[str] = ("a", "b", "c"),
    total: int = TOTAL,
    limits: ResumeLimits | None = None,
) -> AsyncIterator[Stage]:
    """Set up a stage; afterwards every call must be closed, every grant be back, and nothing be left running."""
    clock = JumpingClock()
    scheduler, workers = TurnScheduler(instances), ScriptedWorkers(clock, total, scripts)
    async with Background(0) as background:
        generations = Generations(scheduler, workers, background, clock, limits or ResumeLimits())
        yield Stage(clock, scheduler, workers, background, generations)
        await settle()
        assert all(call.closed for call in workers.calls)
        assert scheduler.grants == {}
        assert scheduler.waiting == 0
        assert background._tasks == set()


def tokens_of(steps: list[Step]) -> list[int]:
    """Return the tokens of a generation that ended; their positions must follow each other."""
    batches = [step for step in steps if isinstance(step, TokenBatch)]
    tokens: list[int] = []
    for batch in batches:
        assert batch.position == len(tokens)
        tokens += batch.token_ids
    assert [step for step in steps if isinstance(step, Finished)] == [steps[-1]]
    return tokens


def moves_of(steps: list[Step]) -> list[tuple[str, str, str, int]]:
    """Return the moves: why, from where, to where and at which position."""
    return [
        (step.kind.name, step.source.instance_id, step.target.instance_id, step.position)
        for step in steps
        if isinstance(step, Moved)
    ]

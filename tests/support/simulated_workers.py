"""Workers under virtual time: what they run, and the calls that a scheduler's process makes to them."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from kindling.platform.errors import KindlingError, ResourceExhaustedError, UnavailableError
from kindling.platform.known_leader import KnownLeader
from kindling.scheduler.domain.values import (
    Instance,
    LoadProgress,
    LoadReport,
    ReportedInstance,
    Tier,
    TierTraffic,
    Worker,
    WorkerReport,
)
from kindling.scheduler.ports import GenerationMoved, GenerationStayed
from support.weather import Fate, Process

LOAD_SECONDS = 1.0
_TIMEOUT_SECONDS = 0.5
_HANDOVER_SECONDS = 0.05
_LOADED = LoadReport((TierTraffic(Tier.SSD, 1000, LOAD_SECONDS),), LOAD_SECONDS, 0.1, LOAD_SECONDS, complete=True)


@dataclass
class Running:
    """An instance in a worker, and in those that have joined it."""

    digest: str
    device_bytes: int
    workers: tuple["SimulatedWorker", ...]
    is_ready: bool = False
    is_stopping: bool = False
    generations: set[str] = field(default_factory=set)
    tenants: dict[str, str] = field(default_factory=dict)  # of those that ever ran here


class SimulatedWorker:
    """One worker's process; ``starting`` and ``stopping`` are told of each start and stop that it is asked for."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.instances: dict[str, Running] = {}
        self.parts: dict[str, Running] = {}  # instances of other workers that this one's device has a part of
        self.is_up = True
        self.changed = asyncio.Event()
        self.refused_starts: list[str] = []
        self.leader = KnownLeader()
        self.stopping: Callable[[str], None] = lambda _: None

    def note(self) -> None:
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    def crash(self) -> None:
        """Lose everything that runs, and was known."""
        self.leader = KnownLeader()
        for name in list(self.instances):
            self.drop(name)
        self.parts.clear()
        self.is_up = False
        self.note()

    def begin(self, instance: Instance, joining: Sequence["SimulatedWorker"] = ()) -> None:
        """Start an instance unless it is there; refuses one for which there is no room, here or where it joins."""
        for worker in (self, *joining):
            worker.check_up()
        if instance.instance_id in self.instances:
            return
        if not all(worker.has_room(instance.device_bytes) for worker in (self, *joining)):
            self.refused_starts.append(instance.instance_id)
            raise ResourceExhaustedError("every slot is taken", reason="NO_FREE_SLOT")
        running = Running(instance.digest, instance.device_bytes, (self, *joining))
        self.instances[instance.instance_id] = running
        for worker in joining:
            worker.parts[instance.instance_id] = running
            worker.note()
        asyncio.get_running_loop().call_later(LOAD_SECONDS, self._finish, running)
        self.note()

    def has_room(self, device_bytes: int) -> bool:
        """Whether there is a slot, and memory for so many bytes."""
        there = [*self.instances.values(), *self.parts.values()]
        needed_bytes = sum(one.device_bytes for one in there) + device_bytes
        return len(there) < self.worker.slots and needed_bytes <= (self.worker.memory_bytes or needed_bytes)

    def drop(self, instance_id: str) -> None:
        """An instance is gone, and its parts with it."""
        for worker in self.instances.pop(instance_id).workers[1:]:
            worker.parts.pop(instance_id, None)
            worker.note()

    def _finish(self, running: Running) -> None:
        running.is_ready = True
        self.note()

    def end(self, instance_id: str) -> None:
        """Begin to stop an instance; one that has no generations is gone at once."""
        self.check_up()
        if (part := self.parts.get(instance_id)) is not None:
            part.workers[0].drop(instance_id)
            part.workers[0].note()
        running = self.instances.get(instance_id)
        if running is not None:
            self.stopping(instance_id)
            running.is_stopping = True
            self.sweep()

    def leave(self, instance_id: str, generation_id: str) -> None:
        """A generation is over, or has moved."""
        if (running := self.instances.get(instance_id)) is not None:
            running.generations.discard(generation_id)
        self.sweep()

    def sweep(self) -> None:
        for name, running in list(self.instances.items()):
            if running.is_stopping and not running.generations:
                self.drop(name)
        self.note()

    def report(self) -> WorkerReport:
        return WorkerReport(
            self.worker.worker_id,
            tuple(
                ReportedInstance(
                    name,
                    frozenset(running.generations),
                    _LOADED if running.is_ready else None,
                    {one: running.tenants[one] for one in running.generations if running.tenants.get(one)},
                )
                for name, running in self.instances.items()
            )
            + tuple(map(ReportedInstance, self.parts)),
        )

    def check_up(self) -> None:
        if not self.is_up:
            raise UnavailableError("nobody listens there", reason="UNREACHABLE")

    async def until(self, holds: Callable[[], bool]) -> None:
        """Return once ``holds`` does; raises if the process ends before."""
        while not holds():
            self.check_up()
            await self.changed.wait()


class SimulatedWorkers:
    """The workers as one scheduler's process reaches them, through its weather."""

    def __init__(self, workers: dict[str, SimulatedWorker], process: Process, leader_revision: int) -> None:
        self._workers = workers
        self._process = process
        self._revision = leader_revision

    async def watch(self, worker: Worker) -> AsyncGenerator[WorkerReport, None]:
        """Yield what the worker runs; a report that is late holds up those behind it."""
        there = self._workers[worker.worker_id]
        await self._deliver(there, there.check_up)
        while True:
            there.check_up()
            changed, report = there.changed, there.report()
            blow = self._process.weather.next()
            await asyncio.sleep(blow.seconds)
            if blow.fate in (Fate.LOSE_REQUEST, Fate.LOSE_ANSWER):
                raise UnavailableError("the stream broke", reason="UNREACHABLE")
            yield report
            await changed.wait()

    async def start(
        self, worker: Worker, instance: Instance, others: Sequence[Worker]
    ) -> AsyncGenerator[LoadProgress | LoadReport, None]:
        """Start an instance, or join its start."""
        there, joining = self._workers[worker.worker_id], [self._workers[other.worker_id] for other in others]
        await self._deliver(there, lambda: there.begin(instance, joining))
        yield LoadProgress(1, 2)
        running = there.instances.get(instance.instance_id)
        await there.until(lambda: running is None or running.is_ready or running.is_stopping)
        if there.instances.get(instance.instance_id) is not running or running is None or running.is_stopping:
            raise UnavailableError("it was stopped meanwhile", reason="STOPPED")
        yield _LOADED

    async def stop(self, worker: Worker, instance_id: str) -> None:
        """Stop an instance once its generations are done; returns when it is gone."""
        there = self._workers[worker.worker_id]
        await self._deliver(there, lambda: there.end(instance_id))
        await there.until(lambda: instance_id not in there.instances)

    async def migrate(
        self, worker: Worker, instance_id: str, target: Worker, target_instance_id: str
    ) -> AsyncGenerator[GenerationMoved | GenerationStayed, None]:
        """Hand over what runs in an instance, one generation after the other."""
        source, other = self._workers[worker.worker_id], self._workers[target.worker_id]
        await self._deliver(source, source.check_up)
        running, new = source.instances.get(instance_id), other.instances.get(target_instance_id)
        for name in sorted(running.generations) if running else ():
            await asyncio.sleep(_HANDOVER_SECONDS)
            if new is None or not new.is_ready or name not in running.generations:
                yield GenerationStayed(name, "the target is not there")
                continue
            new.generations.add(name)
            new.tenants[name] = running.tenants.get(name, "")
            other.note()
            source.leave(instance_id, name)
            yield GenerationMoved(name, 10)

    async def _deliver(self, there: SimulatedWorker, act: Callable[[], None]) -> None:
        def apply() -> None:
            there.leader.heed(self._revision)
            act()

        blow = self._process.weather.next()
        if self._process.is_dead or blow.fate is Fate.LOSE_REQUEST:
            await _fail()
        if blow.fate is Fate.KILL_BEFORE:
            await self._process.die()
        if blow.fate is Fate.LATE:
            asyncio.get_running_loop().call_later(_TIMEOUT_SECONDS + blow.seconds, _regardless, apply)
            await _fail()
        await asyncio.sleep(blow.seconds)
        apply()
        if blow.fate is Fate.KILL_AFTER:
            await self._process.die()
        if blow.fate is Fate.LOSE_ANSWER:
            await _fail()


async def _fail() -> None:
    await asyncio.sleep(_TIMEOUT_SECONDS)
    raise UnavailableError("the connection broke", reason="UNREACHABLE")


def _regardless(apply: Callable[[], object]) -> None:
    """Nobody hears any more what comes of a call."""
    with suppress(KindlingError):
        apply()

"""A worker's service in this process: real gRPC on loopback, engines and checkpoints as the test wants them."""

import asyncio
import heapq
import itertools
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from kindling.platform.clock import Clock, SystemClock
from kindling.platform.errors import CancelledError, KindlingError
from kindling.platform.rpc.channel import open_channel
from kindling.platform.rpc.server import RpcServer
from kindling.v1 import inference_pb2, inference_pb2_grpc
from kindling.worker.adapters.fake_engine import FakeEngine
from kindling.worker.adapters.no_storage import EmptyCheckpoint
from kindling.worker.adapters.peer_worker import PeerWorkers
from kindling.worker.app import build_server
from kindling.worker.checkpoint_ports import OpenCheckpoint
from kindling.worker.domain.generation import Finished, Token
from kindling.worker.domain.instance import InstanceSpec, LoadProgress, LoadReport, Tier, TierTraffic, WorkerView
from kindling.worker.instances import Instances
from kindling.worker.settings import EngineKind, WorkerSettings

WORKER_ID = "node-a/worker-0"
DIGEST = "blake3:" + "0" * 64
REPORT = LoadReport((TierTraffic(Tier.SSD, 100, 0.25),), load_seconds=0.5)


class ManualClock:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self._now = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, float, asyncio.Event]] = []
        self._came = asyncio.Event()

    def now(self) -> float:
        return self._now

    def wall(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        due = asyncio.Event()
        sleeper = (self._now + seconds, next(self._order), seconds, due)
        heapq.heappush(self._sleepers, sleeper)
        self._came.set()
        try:
            await due.wait()
        finally:
            if sleeper in self._sleepers:
                self._sleepers.remove(sleeper)
                heapq.heapify(self._sleepers)

    async def advance(self, seconds: float, *, sleeper: float = 0.0) -> None:
        """Wait until somebody sleeps (for ``sleeper`` seconds, if that is said), then let the time pass."""
        await self.until_sleeping(sleeper)
        self._now += seconds
        while self._sleepers and self._sleepers[0][0] <= self._now:
            heapq.heappop(self._sleepers)[-1].set()

    async def until_sleeping(self, seconds: float = 0.0) -> None:
        """Wait until somebody sleeps (for ``seconds``, if that is said)."""
        while not self._somebody_sleeps(seconds):
            self._came.clear()
            await self._came.wait()

    def _somebody_sleeps(self, seconds: float) -> bool:
        return any(seconds in (0.0, whole) and not due.is_set() for _, _, whole, due in self._sleepers)


class ScriptedCheckpoint(EmptyCheckpoint):
    """A checkpoint whose load ends when the test says so."""

    def __init__(self, files_directory: Path = Path("/nonexistent")) -> None:
        super().__init__()
        self.given_up = threading.Event()
        self.waiting = threading.Event()
        self._over = threading.Event()
        self._error: KindlingError | None = None
        self._loaded: asyncio.Future[LoadReport] = asyncio.get_running_loop().create_future()

    @property
    def report(self) -> LoadReport | None:
        return self._loaded.result() if self._loaded.done() else None

    async def loaded(self) -> LoadReport:
        return await asyncio.shield(self._loaded)

    def wait(self, names: Iterable[str]) -> None:
        self.waiting.set()
        assert self._over.wait(30)
        if self._error is not None:
            raise self._error

    def give_up(self) -> None:
        self.given_up.set()
        if not self._over.is_set():
            self._error = CancelledError("given up", reason="LOAD_GIVEN_UP")
            self._over.set()

    def finish(self, outcome: LoadReport | KindlingError = REPORT) -> None:
        self._error = outcome if isinstance(outcome, KindlingError) else None
        self._over.set()
        if isinstance(outcome, KindlingError):
            self._loaded.set_exception(outcome)
        else:
            self._loaded.set_result(outcome)


class ScriptedStore:
    """Checkpoints that open when ``may_open`` is set, or fail with ``error``; loads end at once unless ``holding``."""

    def __init__(self) -> None:
        self.error: KindlingError | None = None
        self.holding = False
        self.may_open = asyncio.Event()
        self.may_open.set()
        self.entered = asyncio.Event()
        self.opened: list[str] = []
        self.held: list[ScriptedCheckpoint] = []
        self.progress: Callable[[LoadProgress], None] = lambda _: None

    @asynccontextmanager
    async def open(self, digest: str, on_progress: Callable[[LoadProgress], None]) -> AsyncIterator[ScriptedCheckpoint]:
        self.opened.append(digest)
        self.progress = on_progress
        self.entered.set()
        await self.may_open.wait()
        if self.error is not None:
            raise self.error
        checkpoint = ScriptedCheckpoint()
        if not self.holding:
            checkpoint.finish()
        self.held.append(checkpoint)
        try:
            yield checkpoint
        finally:
            self.held.remove(checkpoint)


class SteppedEngine(FakeEngine):
    """A fake engine that makes a step only when the test allows one; ``breaks`` makes the next one fail."""

    def __init__(self) -> None:
        super().__init__()
        self.permits = threading.Semaphore(0)
        self.closed = threading.Event()
        self.breaks = False

    def step(self) -> list[Token | Finished]:
        # In slices, so that commands (a cancellation, the end) are obeyed while no step is allowed.
        if not self.permits.acquire(timeout=0.005):
            return []
        if self.breaks:
            raise RuntimeError("out of luck")
        return super().step()

    def close(self) -> None:
        super().close()
        self.closed.set()


class HungryEngine(FakeEngine):
    """A fake engine whose every step waits for the whole checkpoint."""

    def __init__(self, checkpoint: OpenCheckpoint) -> None:
        super().__init__()
        self._weights = checkpoint.weights

    def step(self) -> list[Token | Finished]:
        self._weights.wait(["all"])
        return super().step()


@dataclass
class EngineBench:
    """An ``EngineFactory`` that hands out what the test prepared; ``may_build`` lets it."""

    stepped: bool = False
    hungry: bool = False
    error: Exception | None = None
    may_build: threading.Event = field(default_factory=threading.Event)
    building: threading.Event = field(default_factory=threading.Event)
    built: list[FakeEngine] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.may_build.set()

    def warm_up(self) -> float:
        """Nothing to do."""
        return 0.0

    def build(self, spec: InstanceSpec, checkpoint: OpenCheckpoint) -> FakeEngine:
        self.building.set()
        assert self.may_build.wait(30)
        if self.error is not None:
            raise self.error
        self.built.append(self._engine(checkpoint))
        return self.built[-1]

    def _engine(self, checkpoint: OpenCheckpoint) -> FakeEngine:
        if self.hungry:
            return HungryEngine(checkpoint)
        return SteppedEngine() if self.stepped else FakeEngine()

    @property
    def engine(self) -> SteppedEngine:
        """The engine built last, which must be a stepped one."""
        engine = self.built[-1]
        assert isinstance(engine, SteppedEngine)
        return engine


@dataclass
class WorkerUnderTest:
    """The parts of a running worker, and a client of it."""

    instances: Instances
    store: ScriptedStore
    engines: EngineBench
    server: RpcServer
    channel: grpc.aio.Channel
    stub: "inference_pb2_grpc.InferenceServiceAsyncStub"

    async def until(self, predicate: Callable[[WorkerView], bool]) -> None:
        """Return as soon as what the worker runs is as the test waits for."""
        while True:
            changed = self.instances._changes.upcoming
            if predicate(self.instances.view):
                return
            await changed.wait()

    async def start(self, instance_id: str = "m-1", digest: str = DIGEST) -> inference_pb2.StartInstanceResponse:
        """Start an instance and return the terminal event."""
        request = inference_pb2.StartInstanceRequest(instance_id=instance_id, model="m", checkpoint_digest=digest)
        events = [event async for event in self.stub.StartInstance(request)]
        assert all(event.HasField("progress") for event in events[:-1])
        return events[-1]


@asynccontextmanager
async def running_worker(
    *, slots: int = 1, stepped: bool = False, clock: Clock | None = None, retry: bool = True
) -> AsyncIterator[WorkerUnderTest]:
    """A worker with scripted checkpoints and fake engines."""
    store, engines = ScriptedStore(), EngineBench(stepped=stepped)
    settings = WorkerSettings(node_id="node-a", engine=EngineKind.FAKE, slots=slots, grace_seconds=0)
    instances = Instances(slots=slots, checkpoints=store, engines=engines, clock=clock or SystemClock())
    async with (
        instances,
        PeerWorkers() as workers,
        build_server(settings, instances, workers) as server,
        open_channel(server.address, retry=retry) as channel,
    ):
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        yield WorkerUnderTest(instances, store, engines, server, channel, stub)


def start_request(instance_id: str = "m-1") -> inference_pb2.StartInstanceRequest:
    """A request to start an instance of the only checkpoint."""
    return inference_pb2.StartInstanceRequest(instance_id=instance_id, model="m", checkpoint_digest=DIGEST)


def generate_request(
    generation_id: str = "g", instance_id: str = "m-1", max_tokens: int = 8, **sampling: float
) -> inference_pb2.GenerateRequest:
    """A request for some greedy tokens after the prompt 1, 2, 3."""
    return inference_pb2.GenerateRequest(
        generation_id=generation_id,
        instance_id=instance_id,
        prompt_token_ids=[1, 2, 3],
        sampling=inference_pb2.SamplingParams(max_tokens=max_tokens, **sampling),
    )


async def read(call: "grpc.aio.UnaryStreamCall") -> object:
    """The next event of a stream, which must have one."""
    event = await call.read()
    assert event is not grpc.aio.EOF
    return event

"""Two workers in this process, and readers that follow their generations from one to the other as a gateway does."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kindling.platform.clock import SystemClock
from kindling.platform.rpc.channel import open_channel
from kindling.platform.rpc.server import RpcServer
from kindling.v1 import inference_pb2, inference_pb2_grpc
from kindling.worker.adapters.engine_factory import FakeEngineFactory, FakeEngineOptions
from kindling.worker.adapters.no_storage import EmptyCheckpoint
from kindling.worker.adapters.peer_worker import PeerWorkers
from kindling.worker.adapters.transformers_engine import DirectoryWeightSource, TransformersEngine
from kindling.worker.app import build_server
from kindling.worker.checkpoint_ports import EngineFactory, OpenCheckpoint
from kindling.worker.domain.instance import InstanceSpec, InstanceView
from kindling.worker.instances import Instances
from kindling.worker.ports import Engine
from kindling.worker.settings import EngineKind, WorkerSettings
from support.worker_service import DIGEST, ScriptedStore

INSTANCE = "m-1"


class RealEngines:
    """Builds transformers engines on a directory."""

    def __init__(self, directory: Path, **options: int) -> None:
        self._directory = directory
        self._options = options

    def warm_up(self) -> float:
        """Nothing to do."""
        return 0.0

    def build(self, spec: InstanceSpec, checkpoint: OpenCheckpoint) -> Engine:
        """Return an engine."""
        assert isinstance(checkpoint, EmptyCheckpoint)
        return TransformersEngine(DirectoryWeightSource(self._directory), self._directory, **self._options)


def paced_fakes(step_seconds: float = 0.002) -> EngineFactory:
    """Builds fake engines whose steps take time."""
    return FakeEngineFactory(FakeEngineOptions(vocab_size=199, context_length=4096, step_seconds=step_seconds))


@dataclass
class WorkerInPair:
    """One of the two."""

    instances: Instances
    server: RpcServer
    stub: "inference_pb2_grpc.InferenceServiceAsyncStub"

    @property
    def address(self) -> str:
        """Where it serves."""
        return self.server.address

    @property
    def view(self) -> InstanceView:
        """Its only instance."""
        return self.instances.view.instances[0]

    async def until(self, predicate: Callable[[InstanceView], bool]) -> None:
        """Return as soon as its only instance is as the test waits for."""
        while True:
            changed = self.instances._changes.upcoming
            if predicate(self.view):
                return
            await changed.wait()

    async def start(self, digest: str = DIGEST) -> None:
        """Start the instance."""
        request = inference_pb2.StartInstanceRequest(instance_id=INSTANCE, model="m", checkpoint_digest=digest)
        assert [event async for event in self.stub.StartInstance(request)][-1].HasField("ready")

    async def migrate_to(self, target: "WorkerInPair") -> list[inference_pb2.MigrateInstanceResponse]:
        """Move everything to the other worker's instance."""
        request = inference_pb2.MigrateInstanceRequest(
            instance_id=INSTANCE, target_address=target.address, target_instance_id=INSTANCE
        )
        return [event async for event in self.stub.MigrateInstance(request)]


@asynccontextmanager
async def worker_in_pair(engines: EngineFactory, *, orphan_seconds: float = 10.0) -> AsyncIterator[WorkerInPair]:
    """A worker with one instance, without a registry."""
    settings = WorkerSettings(node_id="node-a", engine=EngineKind.FAKE, grace_seconds=0)
    instances = Instances(
        slots=1, checkpoints=ScriptedStore(), engines=engines, clock=SystemClock(), orphan_seconds=orphan_seconds
    )
    async with (
        instances,
        PeerWorkers() as peers,
        build_server(settings, instances, peers) as server,
        open_channel(server.address, retry=False) as channel,
    ):
        worker = WorkerInPair(instances, server, inference_pb2_grpc.InferenceServiceStub(channel))
        await worker.start()
        yield worker


@asynccontextmanager
async def worker_pair(
    engines: EngineFactory, *, orphan_seconds: float = 10.0
) -> AsyncIterator[tuple[WorkerInPair, WorkerInPair]]:
    """Two workers with an instance of the same checkpoint each."""
    async with AsyncExitStack() as resources:
        first, second = [
            await resources.enter_async_context(worker_in_pair(engines, orphan_seconds=orphan_seconds))
            for _ in range(2)
        ]
        yield first, second


@dataclass
class Reader:
    """Reads one generation to its end, wherever it goes; a token lost, repeated or out of place fails the test."""

    request: inference_pb2.GenerateRequest
    workers: tuple[WorkerInPair, ...]
    moves: int = 0
    token_ids: list[int] = field(default_factory=list)
    finished: inference_pb2.GenerationFinished | None = None
    grew: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self) -> list[int]:
        """Read from the first worker on."""
        worker: WorkerInPair | None = self.workers[0]
        while worker is not None:
            worker = await self._read_from(worker)
        return self.token_ids

    async def until(self, count: int) -> None:
        """Return when so many tokens have come."""
        while len(self.token_ids) < count and self.finished is None:
            self.grew.clear()
            await self.grew.wait()

    async def _read_from(self, worker: WorkerInPair) -> WorkerInPair | None:
        request = inference_pb2.GenerateRequest()
        request.CopyFrom(self.request)
        request.emitted_token_ids[:] = self.token_ids
        async for event in worker.stub.Generate(request):
            assert self.finished is None
            if event.HasField("tokens"):
                assert event.tokens.position == len(self.token_ids)
                self.token_ids += event.tokens.token_ids
            elif event.HasField("finished"):
                self.finished = event.finished
            elif event.HasField("migrated"):
                assert event.migrated.position == len(self.token_ids)
                self.moves += 1
                return next(other for other in self.workers if other.address == event.migrated.worker_address)
            self.grew.set()
        assert self.finished is not None
        assert self.finished.completion_tokens == len(self.token_ids)
        return None


def asked(
    number: int, max_tokens: int, *, prompt_tokens: int = 20, instance_id: str = INSTANCE, **sampling: object
) -> inference_pb2.GenerateRequest:
    """A request for greedy tokens if ``number`` is even, else for drawn ones."""
    prompt = [(7 * number + 3 * index) % 199 for index in range(prompt_tokens)]
    drawn = {"temperature": 1.0, "seed": number, "top_p": 0.95} if number % 2 else {}
    params = inference_pb2.SamplingParams(**{"max_tokens": max_tokens, **drawn, **sampling})  # type: ignore[arg-type]
    return inference_pb2.GenerateRequest(
        generation_id=f"g{number}", instance_id=instance_id, prompt_token_ids=prompt, sampling=params
    )

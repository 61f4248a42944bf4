"""A scheduler and a worker that say what a test tells them, over real gRPC; and a gateway in front of them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
from openai import AsyncOpenAI
from tokenizers import Tokenizer

from kindling.gateway.app import Gateway, running
from kindling.gateway.settings import GatewaySettings
from kindling.platform.errors import KindlingError, NotFoundError
from kindling.platform.rpc.server import RpcServer
from kindling.v1 import (
    checkpoint_pb2,
    cluster_pb2,
    cluster_pb2_grpc,
    inference_pb2,
    inference_pb2_grpc,
    model_pb2,
    model_pb2_grpc,
    scheduler_pb2,
    scheduler_pb2_grpc,
)
from support.gateway_tokenizers import END, byte_level, model_files

CONTEXT_LENGTH = 512
MODEL = "tiny"
REPLY = "Hello wörld, 你好 😀! The end of it."


@dataclass
class FakeModel:
    """A model that the fake scheduler knows."""

    files: dict[str, bytes]
    digest: str = "blake3:00"
    context_length: int = CONTEXT_LENGTH

    def message(self, name: str) -> model_pb2.Model:
        checkpoint = checkpoint_pb2.Checkpoint(digest=self.digest, context_length=self.context_length)
        model = model_pb2.Model(name=name, checkpoint=checkpoint)
        model.create_time.seconds = 1_700_000_000
        return model


class Journal:
    """Things that happened, and a way to wait for them."""

    def __init__(self) -> None:
        self.items: list[str] = []
        self._changed = asyncio.Condition()

    async def add(self, item: str) -> None:
        async with self._changed:
            self.items.append(item)
            self._changed.notify_all()

    async def wait_for(self, count: int) -> list[str]:
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(lambda: len(self.items) >= count)
        return self.items


class FakeScheduler(
    scheduler_pb2_grpc.SchedulerServiceServicer,
    model_pb2_grpc.ModelServiceServicer,
    cluster_pb2_grpc.ClusterServiceServicer,
):
    """Grants every request a place on ``workers``, in turn, after the events in ``before_grant``."""

    def __init__(self, workers: list[str], models: dict[str, FakeModel]) -> None:
        self.workers = workers
        self.models = models
        self.acquired = Journal()
        self.released = Journal()
        self.avoided: list[list[str]] = []
        self.tenants: list[str] = []
        self.file_reads = 0
        self.before_grant: list[scheduler_pb2.AcquireResponse] = []
        self.hold: asyncio.Event | None = None
        self.refuse: Callable[[], KindlingError] | None = None
        self.deployed: list[model_pb2.DeployModelRequest] = []

    async def Acquire(self, request, context) -> AsyncIterator[scheduler_pb2.AcquireResponse]:
        if self.refuse is not None:
            raise self.refuse()
        self.avoided.append(list(request.avoid_instance_ids))
        self.tenants.append(request.tenant)
        await self.acquired.add(request.generation_id)
        for event in self.before_grant:
            yield event
        if self.hold is not None:
            await self.hold.wait()
        place = (len(self.acquired.items) - 1) % len(self.workers)
        granted = scheduler_pb2.Granted(
            instance_id=f"{request.model}-{place}",
            worker_address=self.workers[place],
            node_id="node-0",
            start=scheduler_pb2.START_KIND_WARM,
        )
        yield scheduler_pb2.AcquireResponse(granted=granted)

    async def Release(self, request, context) -> scheduler_pb2.ReleaseResponse:
        await self.released.add(request.generation_id)
        return scheduler_pb2.ReleaseResponse()

    async def GetModel(self, request, context) -> model_pb2.GetModelResponse:
        return model_pb2.GetModelResponse(model=self._model(request.name).message(request.name))

    async def ListModels(self, request, context) -> model_pb2.ListModelsResponse:
        if self.refuse is not None:
            raise self.refuse()
        return model_pb2.ListModelsResponse(models=[self.models[name].message(name) for name in sorted(self.models)])

    async def DeployModel(self, request, context) -> AsyncIterator[model_pb2.DeployModelResponse]:
        self.deployed.append(request)
        progress = model_pb2.ImportProgress(done_bytes=1, total_bytes=2)
        yield model_pb2.DeployModelResponse(progress=progress)
        yield model_pb2.DeployModelResponse(deployed=model_pb2.Model(name=request.name))

    async def DeleteModel(self, request, context) -> model_pb2.DeleteModelResponse:
        self._model(request.name)
        return model_pb2.DeleteModelResponse()

    async def EvictModel(self, request, context) -> model_pb2.EvictModelResponse:
        return model_pb2.EvictModelResponse(stopped_instances=3)

    async def ReadModelFiles(self, request, context) -> AsyncIterator[model_pb2.ReadModelFilesResponse]:
        self.file_reads += 1
        model = self._model(request.name)
        for path, content in model.files.items():
            for offset in range(0, max(1, len(content)), 4096):
                part = model_pb2.FilePart(
                    path=path, file_bytes=len(content), offset=offset, data=content[offset : offset + 4096]
                )
                yield model_pb2.ReadModelFilesResponse(checkpoint_digest=model.digest, part=part)

    async def GetClusterStatus(self, request, context) -> cluster_pb2.GetClusterStatusResponse:
        return cluster_pb2.GetClusterStatusResponse(leader_id="scheduler-0", leader_address="here")

    def _model(self, name: str) -> FakeModel:
        if name not in self.models:
            raise NotFoundError(f"no model {name}", reason="MODEL_NOT_FOUND")
        return self.models[name]

    def serve(self, address: str = "127.0.0.1:0") -> RpcServer:
        server = RpcServer(address, grace_seconds=0)
        server.add(scheduler_pb2_grpc.add_SchedulerServiceServicer_to_server, self, "kindling.v1.SchedulerService")
        server.add(model_pb2_grpc.add_ModelServiceServicer_to_server, self, "kindling.v1.ModelService")
        server.add(cluster_pb2_grpc.add_ClusterServiceServicer_to_server, self, "kindling.v1.ClusterService")
        return server


class FakeWorker(inference_pb2_grpc.InferenceServiceServicer):
    """Answers every prompt with ``reply_ids`` and the end token, ``batch_tokens`` at a time.

    Logs what it was asked and which generations were cancelled. With ``hold`` it stops before position
    ``hold_at`` until told; with ``fail_at`` it fails there, and with ``migrate_at`` it hands over, once per entry.
    """

    def __init__(self, reply_ids: list[int], end_id: int) -> None:
        self.reply_ids = reply_ids
        self.end_id = end_id
        self.batch_tokens = 1
        self.requests: list[inference_pb2.GenerateRequest] = []
        self.started = Journal()
        self.cancelled = Journal()
        self.hold: asyncio.Event | None = None
        self.hold_at = 3
        self.fail_at: list[tuple[int, KindlingError]] = []
        self.migrate_at: list[tuple[int, inference_pb2.GenerationMigrated]] = []
        self.alive_before_each = 0

    async def Generate(self, request, context) -> AsyncIterator[inference_pb2.GenerateResponse]:
        self.requests.append(request)
        await self.started.add(request.generation_id)
        try:
            async for response in self._generate(request):
                yield response
        except (asyncio.CancelledError, GeneratorExit):  # the latter if it was sending when the call was cancelled
            await asyncio.shield(asyncio.ensure_future(self.cancelled.add(request.generation_id)))
            raise

    async def _generate(self, request) -> AsyncIterator[inference_pb2.GenerateResponse]:
        all_ids = self.reply_ids if request.sampling.ignore_eos else [*self.reply_ids, self.end_id]
        ids = all_ids[: request.sampling.max_tokens]
        position = len(request.emitted_token_ids)
        while position < len(ids):
            if self.fail_at and position >= self.fail_at[0][0]:
                raise self.fail_at.pop(0)[1]
            if self.migrate_at and position >= self.migrate_at[0][0]:
                yield inference_pb2.GenerateResponse(migrated=self.migrate_at.pop(0)[1])
                return
            if self.hold is not None and position >= self.hold_at:
                await self.hold.wait()
            for _ in range(self.alive_before_each):
                yield inference_pb2.GenerateResponse(alive=inference_pb2.GenerationAlive())
            batch = ids[position : position + self.batch_tokens]
            yield inference_pb2.GenerateResponse(tokens=_batch(request, position, batch))
            position += len(batch)
        stopped = ids[-1:] == [self.end_id]
        reason = inference_pb2.FINISH_REASON_STOP if stopped else inference_pb2.FINISH_REASON_LENGTH
        finished = inference_pb2.GenerationFinished(
            reason=reason, prompt_tokens=len(request.prompt_token_ids), completion_tokens=len(ids)
        )
        yield inference_pb2.GenerateResponse(finished=finished)

    def serve(self, address: str = "127.0.0.1:0") -> RpcServer:
        server = RpcServer(address, grace_seconds=0)
        server.add(inference_pb2_grpc.add_InferenceServiceServicer_to_server, self, "kindling.v1.InferenceService")
        return server


def _batch(request: inference_pb2.GenerateRequest, position: int, ids: list[int]) -> inference_pb2.TokenBatch:
    batch = inference_pb2.TokenBatch(position=position, token_ids=ids)
    if request.sampling.HasField("top_logprobs"):
        for token_id in ids:
            top = [
                inference_pb2.TokenLogprob(token_id=token_id + rank, logprob=-0.5 - rank)
                for rank in range(request.sampling.top_logprobs)
            ]
            batch.logprobs.append(inference_pb2.TokenLogprobs(logprob=-0.5, top=top))
    return batch


@dataclass
class Rig:
    """Everything that a test of the gateway touches."""

    gateway: Gateway
    scheduler: FakeScheduler
    scheduler_server: RpcServer
    workers: list[FakeWorker]
    tokenizer: Tokenizer
    client: httpx.AsyncClient
    openai: AsyncOpenAI

    @property
    def worker(self) -> FakeWorker:
        return self.workers[0]

    def migrate(self, source: int, position: int, target: int) -> None:
        """Make worker ``source`` hand the next generation that comes to ``position`` over to worker ``target``."""
        migrated = inference_pb2.GenerationMigrated(
            worker_address=self.scheduler.workers[target], instance_id=f"{MODEL}-{target}", position=position
        )
        self.workers[source].migrate_at.append((position, migrated))


@asynccontextmanager
async def gateway_rig(*, workers: int = 1, **settings: object) -> AsyncIterator[Rig]:
    """Start fake workers and a fake scheduler on real sockets, and a real gateway in front of them."""
    tokenizer = byte_level()
    fakes = [FakeWorker(tokenizer.encode(REPLY).ids, tokenizer.token_to_id(END)) for _ in range(workers)]
    servers = [fake.serve() for fake in fakes]
    for server in servers:
        await server.__aenter__()
    scheduler = FakeScheduler([server.address for server in servers], {MODEL: FakeModel(model_files(tokenizer))})
    try:
        async with scheduler.serve() as scheduler_server:
            options = {"listen_address": "127.0.0.1:0", "http_port": 0, "grace_seconds": 1.0, **settings}
            options.setdefault("schedulers", scheduler_server.address)
            async with running(GatewaySettings(**options)) as gateway:
                base_url = f"http://{gateway.http.address}"
                async with (
                    httpx.AsyncClient(base_url=base_url, timeout=20) as client,
                    AsyncOpenAI(base_url=f"{base_url}/v1", api_key="none", max_retries=0, timeout=20) as openai,
                ):
                    yield Rig(gateway, scheduler, scheduler_server, fakes, tokenizer, client, openai)
    finally:
        for server in servers:
            await server.__aexit__(None, None, None)

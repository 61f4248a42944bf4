"""What a test of a worker with a real storage manager does over and over."""

import asyncio
import threading
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from kindling.platform.clock import SystemClock
from kindling.platform.rpc.channel import open_channel
from kindling.v1 import checkpoint_pb2, inference_pb2, inference_pb2_grpc, storage_pb2, storage_pb2_grpc
from kindling.worker.adapters.peer_worker import PeerWorkers
from kindling.worker.app import build_server, engine_factory, open_store
from kindling.worker.checkpoint_ports import EngineFactory, OpenCheckpoint
from kindling.worker.domain.instance import InstanceSpec
from kindling.worker.instances import NO_PARKING, Instances
from kindling.worker.parking import ParkingLimits
from kindling.worker.ports import Engine
from kindling.worker.settings import WorkerSettings


async def import_checkpoint(storage_address: str, source: Path) -> str:
    """Pack a Hugging Face directory and return its digest."""
    async with open_channel(storage_address) as channel:
        stub = storage_pb2_grpc.StorageServiceStub(channel)
        request = storage_pb2.ImportCheckpointRequest(request_id=uuid4().hex, source_uri=source.as_uri())
        events = [event async for event in stub.ImportCheckpoint(request)]
    return str(events[-1].imported.digest)


async def leases(storage_address: str) -> list[str]:
    """Who holds leases now."""
    async with open_channel(storage_address) as channel:
        stub = storage_pb2_grpc.StorageServiceStub(channel)
        status = await stub.GetStorageStatus(storage_pb2.GetStorageStatusRequest())
    return [lease.holder for lease in status.leases]


async def start_instance(stub: Any, digest: str, instance_id: str = "m-1") -> inference_pb2.StartInstanceResponse:
    """Start an instance and return the terminal event."""
    request = inference_pb2.StartInstanceRequest(instance_id=instance_id, model="m", checkpoint_digest=digest)
    events = [event async for event in stub.StartInstance(request)]
    assert events[-1].HasField("ready")
    return events[-1]


async def loaded_report(stub: Any) -> checkpoint_pb2.LoadReport:
    """The complete report of the worker's only instance."""
    watch = stub.WatchWorker(inference_pb2.WatchWorkerRequest())
    try:
        async for view in watch:
            if view.instances[0].report.complete:
                return view.instances[0].report
    finally:
        watch.cancel()
    raise AssertionError("the watch ended before the instance was loaded")


async def greedy(stub: inference_pb2_grpc.InferenceServiceStub, prompt: Sequence[int], count: int) -> list[int]:
    """The greedy continuation of a prompt."""
    request = inference_pb2.GenerateRequest(
        generation_id=uuid4().hex,
        instance_id="m-1",
        prompt_token_ids=prompt,
        sampling=inference_pb2.SamplingParams(max_tokens=count, ignore_eos=True),
    )
    events = [event async for event in stub.Generate(request)]
    assert events[-1].finished.completion_tokens == count
    return [token for event in events[:-1] for token in event.tokens.token_ids]


def generate_with_transformers(directory: Path, prompt: Sequence[int], count: int) -> list[int]:
    """What transformers itself makes of the same directory."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype="auto").eval()
    inputs = torch.tensor([list(prompt)])
    with torch.inference_mode():
        output = model.generate(
            inputs,
            attention_mask=torch.ones_like(inputs),
            max_new_tokens=count,
            min_new_tokens=count,
            do_sample=False,
            eos_token_id=-1,
        )
    return [int(token) for token in output[0, len(prompt) :]]


class WatchedFactory:
    """Builds the worker's own engines, and notes when their first and last layers run.

    ``first_layer`` is set when a first layer has run. ``chunks_missing`` says, for each layer that ran, in order,
    whether chunks were still on their way after it.
    """

    def __init__(self, inner: EngineFactory) -> None:
        self._inner = inner
        self.first_layer = threading.Event()
        self.chunks_missing: list[bool] = []

    def warm_up(self) -> float:
        """Do what the worker's own does."""
        return self._inner.warm_up()

    def build(self, spec: InstanceSpec, checkpoint: OpenCheckpoint) -> Engine:
        """Build the worker's own engine."""
        engine: Any = self._inner.build(spec, checkpoint)
        for layer in engine._runner._model.model.layers:
            layer.register_forward_hook(lambda *_: self._note(checkpoint))
        return engine  # type: ignore[no-any-return]

    def _note(self, checkpoint: OpenCheckpoint) -> None:
        self.chunks_missing.append(not checkpoint.weights.complete)
        self.first_layer.set()


@dataclass
class WorkerOnStorage:
    """A worker in this process, as ``app`` puts it together, without a registry."""

    stub: inference_pb2_grpc.InferenceServiceStub
    engines: WatchedFactory
    instances: Instances

    async def until_gone(self) -> None:
        """Return when no instance is left."""
        while self.instances.view.instances:
            await self.instances._changes.upcoming.wait()


async def worker_in_this_process(
    storage_address: str, resources: AsyncExitStack, parking: ParkingLimits = NO_PARKING
) -> WorkerOnStorage:
    """Run a worker on a storage manager until ``resources`` is closed."""
    settings = WorkerSettings(
        node_id="node-a", storage_address=storage_address, threads=1, kv_cache_bytes=2**24, grace_seconds=0
    )
    engines = WatchedFactory(engine_factory(settings))
    await asyncio.to_thread(engines.warm_up)
    store = await open_store(settings, resources)
    instances = Instances(slots=1, checkpoints=store, engines=engines, clock=SystemClock(), parking=parking)
    await resources.enter_async_context(instances)
    workers = await resources.enter_async_context(PeerWorkers())
    server = await resources.enter_async_context(build_server(settings, instances, workers))
    channel = await resources.enter_async_context(open_channel(server.address, retry=False))
    return WorkerOnStorage(inference_pb2_grpc.InferenceServiceStub(channel), engines, instances)

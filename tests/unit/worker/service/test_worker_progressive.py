"""Instances that take generations while their chunks still arrive, over real gRPC; the test lets the load end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from kindling.platform.errors import DataLossError, KindlingError, NotFoundError, UnavailableError
from kindling.platform.rpc.channel import remote_errors
from kindling.v1 import checkpoint_pb2, inference_pb2
from kindling.worker.domain.instance import WorkerView
from support.worker_service import REPORT, WorkerUnderTest, generate_request, read, running_worker, start_request

CORRUPT = DataLossError("chunk 3 is bad", reason="CHUNK_CORRUPT", metadata={"chunk": "3"})
LOST = UnavailableError("the storage manager went away", reason="LEASE_OVER")


async def test_an_instance_is_ready_before_its_load_is_over() -> None:
    async with loading_worker() as worker:
        ready = (await worker.start()).ready
        assert not ready.complete
        assert (ready.load_seconds, list(ready.traffic)) == (0, [])
        assert ready.total_seconds >= ready.init_seconds > 0
        events = [event async for event in worker.stub.Generate(generate_request(max_tokens=4))]
        assert events[-1].finished.completion_tokens == 4
        assert not worker.instances.view.instances[0].report.complete


async def test_the_complete_report_follows_in_the_watch() -> None:
    async with loading_worker() as worker:
        ready = (await worker.start()).ready
        watch = worker.stub.WatchWorker(inference_pb2.WatchWorkerRequest())
        assert not (await read(watch)).instances[0].report.complete
        worker.store.held[0].finish()
        report = (await read(watch)).instances[0].report
        assert report.complete
        assert getattr(report.traffic[0], "from") == checkpoint_pb2.TIER_SSD
        assert report.load_seconds == REPORT.load_seconds
        assert report.init_seconds == ready.init_seconds
        assert report.total_seconds > ready.total_seconds
        again = (await worker.start()).ready
        assert again == report


@pytest.mark.parametrize("error", [CORRUPT, LOST], ids=lambda error: error.reason)
async def test_a_load_that_breaks_fails_every_generation_and_frees_everything(error: KindlingError) -> None:
    async with loading_worker(stepped=True) as worker:
        await worker.start()
        calls = [worker.stub.Generate(generate_request(name)) for name in ("g1", "g2")]
        await worker.until(lambda view: _generations(view) == {"g1", "g2"})
        worker.store.held[0].finish(error)
        for call in calls:
            assert (await _error_of(call, type(error))).reason == error.reason
        await worker.until(lambda view: not view.instances)
        assert worker.engines.engine.closed.is_set()
        assert not worker.store.held
        assert (await _error_of(worker.stub.Generate(generate_request("g3")), NotFoundError)).reason
        worker.store.holding = False
        assert (await worker.start("m-2")).ready.complete


async def test_a_load_that_breaks_before_the_engine_is_built_fails_the_start() -> None:
    async with loading_worker(stepped=True) as worker:
        worker.engines.may_build.clear()
        call = worker.stub.StartInstance(start_request())
        await asyncio.to_thread(worker.engines.building.wait)
        worker.store.held[0].finish(CORRUPT)
        worker.engines.may_build.set()
        assert (await _error_of(call, DataLossError)).metadata["chunk"] == "3"
        assert worker.engines.engine.closed.is_set()
        assert not worker.store.held
        assert not worker.instances.view.instances


async def test_a_load_that_breaks_while_nobody_generates_ends_the_instance() -> None:
    async with loading_worker() as worker:
        await worker.start()
        worker.store.held[0].finish(CORRUPT)
        await worker.until(lambda view: not view.instances)
        assert not worker.store.held


async def test_stopping_an_idle_instance_gives_its_load_up() -> None:
    async with loading_worker() as worker:
        await worker.start()
        checkpoint = worker.store.held[0]
        await worker.stub.StopInstance(inference_pb2.StopInstanceRequest(instance_id="m-1"))
        assert checkpoint.given_up.is_set()
        assert not worker.store.held


async def test_stopping_waits_for_generations_that_wait_for_the_load() -> None:
    async with loading_worker(stepped=True) as worker:
        await worker.start()
        call = worker.stub.Generate(generate_request(max_tokens=4))
        await worker.until(lambda view: _generations(view) == {"g"})
        stop = worker.stub.StopInstance(inference_pb2.StopInstanceRequest(instance_id="m-1"))
        worker.store.held[0].finish()
        await worker.until(lambda view: view.instances[0].report.complete)
        worker.engines.engine.permits.release(10)
        assert [event async for event in _events(call)][-1].finished.completion_tokens == 4
        await stop


async def test_a_stop_without_grace_wakes_an_engine_that_waits_for_bytes() -> None:
    async with loading_worker() as worker:
        worker.engines.hungry = True
        await worker.start()
        call = worker.stub.Generate(generate_request())
        await asyncio.to_thread(worker.store.held[0].waiting.wait)
        request = inference_pb2.StopInstanceRequest(instance_id="m-1", grace=Duration(seconds=0))
        await worker.stub.StopInstance(request)
        assert (await _error_of(call, UnavailableError)).reason == "ENGINE_CLOSED"
        assert not worker.store.held


async def test_an_engine_that_waits_for_bytes_fails_with_the_load() -> None:
    async with loading_worker() as worker:
        worker.engines.hungry = True
        await worker.start()
        call = worker.stub.Generate(generate_request())
        await asyncio.to_thread(worker.store.held[0].waiting.wait)
        worker.store.held[0].finish(CORRUPT)
        assert (await _error_of(call, DataLossError)).metadata["chunk"] == "3"
        await worker.until(lambda view: not view.instances)


@asynccontextmanager
async def loading_worker(*, stepped: bool = False) -> AsyncIterator[WorkerUnderTest]:
    """A worker whose checkpoints open at once and load when the test says so."""
    async with running_worker(stepped=stepped, retry=False) as worker:
        worker.store.holding = True
        yield worker


def _generations(view: WorkerView) -> set[str]:
    return {name for instance in view.instances for name in instance.generation_ids}


async def _events(call: Any) -> AsyncIterator[inference_pb2.GenerateResponse]:
    while (event := await call.read()) is not grpc.aio.EOF:
        yield event


async def _error_of(call: Any, kind: type[KindlingError]) -> KindlingError:
    with pytest.raises(kind) as caught, remote_errors("the worker"):
        async for _ in _events(call):
            pass
    return caught.value

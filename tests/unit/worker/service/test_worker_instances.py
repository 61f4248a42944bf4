"""Starting and stopping instances over real gRPC."""

import asyncio

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from kindling.platform.errors import (
    AlreadyExistsError,
    CancelledError,
    DataLossError,
    InternalError,
    InvalidArgumentError,
    KindlingError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
)
from kindling.platform.rpc.channel import remote_errors
from kindling.v1 import checkpoint_pb2, inference_pb2
from kindling.worker.domain.instance import InstanceState, LoadProgress, Tier
from support.worker_service import (
    DIGEST,
    REPORT,
    ManualClock,
    WorkerUnderTest,
    generate_request,
    read,
    running_worker,
    start_request,
)


async def test_start_reports_progress_and_ends_ready() -> None:
    async with running_worker() as worker:
        worker.engines.may_build.clear()
        call = worker.stub.StartInstance(start_request())
        await read(call)
        await worker.store.entered.wait()
        worker.store.progress(LoadProgress(40, 100, Tier.REMOTE))
        events = [await read(call)]
        while not events[-1].progress.loaded_bytes:
            events.append(await read(call))
        progress = events[-1].progress
        assert (progress.loaded_bytes, progress.total_bytes) == (40, 100)
        assert getattr(progress, "from") == checkpoint_pb2.TIER_REMOTE
        worker.engines.may_build.set()
        rest = [event async for event in _iterate(call)]
    assert rest[-1].ready.complete
    assert rest[-1].ready.load_seconds == REPORT.load_seconds
    assert rest[-1].ready.traffic[0].bytes == 100
    assert rest[-1].ready.total_seconds >= rest[-1].ready.init_seconds >= 0


async def test_start_joins_the_start_under_way() -> None:
    async with running_worker() as worker:
        worker.engines.may_build.clear()
        first, second = worker.stub.StartInstance(start_request()), worker.stub.StartInstance(start_request())
        await read(first)
        await read(second)
        worker.engines.may_build.set()
        for call in (first, second):
            events = [event async for event in _iterate(call)]
            assert events[-1].HasField("ready")
        assert worker.store.opened == [DIGEST]
        again = await worker.start()
        assert again.HasField("ready")


async def test_cancelling_the_start_call_does_not_stop_the_start() -> None:
    async with running_worker() as worker:
        worker.engines.may_build.clear()
        call = worker.stub.StartInstance(start_request())
        await read(call)
        call.cancel()
        worker.engines.may_build.set()
        assert (await worker.start()).HasField("ready")
        assert worker.store.opened == [DIGEST]


async def test_a_full_worker_refuses_another_instance() -> None:
    async with running_worker(slots=1) as worker:
        await worker.start("m-1")
        with pytest.raises(ResourceExhaustedError) as caught, remote_errors("the worker"):
            await worker.start("m-2")
        assert caught.value.reason == "NO_FREE_SLOT"
        await worker.stub.StopInstance(inference_pb2.StopInstanceRequest(instance_id="m-1"))
        assert (await worker.start("m-2")).HasField("ready")


async def test_an_instance_id_cannot_change_its_checkpoint() -> None:
    async with running_worker() as worker:
        await worker.start()
        with pytest.raises(AlreadyExistsError) as caught, remote_errors("the worker"):
            await worker.start(digest="blake3:" + "1" * 64)
        assert caught.value.reason == "INSTANCE_EXISTS"


@pytest.mark.parametrize("field", ["instance_id", "checkpoint_digest"])
async def test_start_needs_its_fields(field: str) -> None:
    async with running_worker() as worker:
        request = start_request()
        request.ClearField(field)
        with pytest.raises(InvalidArgumentError) as caught, remote_errors("the worker"):
            await worker.stub.StartInstance(request).read()
        assert caught.value.field == field


@pytest.mark.parametrize(
    "error",
    [
        DataLossError("chunk 3 is bad", reason="CHUNK_CORRUPT", metadata={"chunk": "3"}),
        NotFoundError("no such checkpoint", reason="CHECKPOINT_NOT_FOUND"),
        ResourceExhaustedError("the pool lacks 7 bytes", reason="POOL_TOO_SMALL"),
    ],
    ids=lambda error: error.reason,
)
async def test_a_checkpoint_that_cannot_be_opened_fails_the_start_and_frees_the_slot(error: KindlingError) -> None:
    async with running_worker() as worker:
        worker.store.error = error
        await _expect_failed_start(worker, type(error), error.reason)
        worker.store.error = None
        assert (await worker.start("m-2")).HasField("ready")


@pytest.mark.parametrize(
    ("cause", "kind", "reason"),
    [
        (InvalidArgumentError("no lm_head", reason="TENSORS_MISSING"), InvalidArgumentError, "TENSORS_MISSING"),
        (RuntimeError("a bug"), InternalError, "ENGINE_BUILD_FAILED"),
    ],
)
async def test_an_engine_that_cannot_be_built_fails_the_start(
    cause: Exception, kind: type[KindlingError], reason: str
) -> None:
    async with running_worker() as worker:
        worker.engines.error = cause
        await _expect_failed_start(worker, kind, reason)
        worker.engines.error = None
        assert (await worker.start("m-2")).HasField("ready")


async def test_stopping_gives_up_a_start_that_waits_for_the_storage_manager() -> None:
    async with running_worker() as worker:
        worker.store.may_open.clear()
        call = worker.stub.StartInstance(start_request())
        await worker.store.entered.wait()
        await worker.stub.StopInstance(inference_pb2.StopInstanceRequest(instance_id="m-1"))
        with pytest.raises(CancelledError) as caught, remote_errors("the worker"):
            async for _ in _iterate(call):
                pass
        assert caught.value.reason == "INSTANCE_STOPPED"


async def test_stopping_gives_up_a_start_that_builds_its_engine() -> None:
    async with running_worker(stepped=True) as worker:
        worker.engines.may_build.clear()
        call = worker.stub.StartInstance(start_request())
        await asyncio.to_thread(worker.engines.building.wait)
        stop = worker.stub.StopInstance(inference_pb2.StopInstanceRequest(instance_id="m-1"))
        await asyncio.to_thread(worker.store.held[0].given_up.wait)
        worker.engines.may_build.set()
        await stop
        assert worker.engines.engine.closed.is_set()
        assert not worker.store.held
        with pytest.raises(CancelledError), remote_errors("the worker"):
            async for _ in _iterate(call):
                pass


async def test_stopping_an_unknown_instance_does_nothing() -> None:
    async with running_worker() as worker:
        await worker.stub.StopInstance(inference_pb2.StopInstanceRequest(instance_id="nobody"))
        assert not worker.instances.view.instances


async def test_stop_lets_generations_end_and_takes_no_new_ones() -> None:
    async with running_worker(stepped=True) as worker:
        await worker.start()
        call = worker.stub.Generate(generate_request(max_tokens=4))
        worker.engines.engine.permits.release()
        await read(call)
        stop = worker.stub.StopInstance(inference_pb2.StopInstanceRequest(instance_id="m-1"))
        await _stopping(worker)
        with pytest.raises(UnavailableError) as caught, remote_errors("the worker"):
            await worker.stub.Generate(generate_request("g2")).read()
        assert caught.value.reason == "INSTANCE_STOPPING"
        assert caught.value.retry_after_seconds is not None
        worker.engines.engine.permits.release(10)
        events = [event async for event in _iterate(call)]
        assert events[-1].finished.reason == inference_pb2.FINISH_REASON_LENGTH
        await stop
        assert not worker.store.held


async def test_stop_cancels_generations_when_the_grace_is_over() -> None:
    clock = ManualClock()
    async with running_worker(stepped=True, clock=clock) as worker:
        await worker.start()
        call = worker.stub.Generate(generate_request(max_tokens=4))
        worker.engines.engine.permits.release()
        await read(call)
        request = inference_pb2.StopInstanceRequest(instance_id="m-1", grace=Duration(seconds=3))
        stop = worker.stub.StopInstance(request)
        await _stopping(worker)
        await clock.advance(2.9, sleeper=3)
        assert worker.instances.view.instances
        await clock.advance(0.2)
        events = [event async for event in _iterate(call)]
        assert events[-1].finished.reason == inference_pb2.FINISH_REASON_CANCELLED
        await stop
        assert not worker.instances.view.instances


async def test_a_stop_goes_on_when_its_caller_gives_up() -> None:
    async with running_worker(stepped=True) as worker:
        await worker.start()
        call = worker.stub.Generate(generate_request(max_tokens=2))
        worker.engines.engine.permits.release()
        await read(call)
        stop = worker.stub.StopInstance(inference_pb2.StopInstanceRequest(instance_id="m-1"))
        await _stopping(worker)
        stop.cancel()
        worker.engines.engine.permits.release(10)
        assert [event async for event in _iterate(call)][-1].HasField("finished")
        await worker.stub.StopInstance(inference_pb2.StopInstanceRequest(instance_id="m-1"))
        assert not worker.instances.view.instances


async def test_an_engine_that_fails_ends_its_streams_and_its_instance() -> None:
    async with running_worker(stepped=True) as worker:
        await worker.start()
        call = worker.stub.Generate(generate_request())
        worker.engines.engine.breaks = True
        worker.engines.engine.permits.release()
        with pytest.raises(InternalError) as caught, remote_errors("the worker"):
            async for _ in _iterate(call):
                pass
        assert caught.value.reason == "ENGINE_FAILED"
        await worker.stub.StopInstance(inference_pb2.StopInstanceRequest(instance_id="m-1"))
        assert (await worker.start("m-2")).HasField("ready")


async def _iterate(call: grpc.aio.UnaryStreamCall):  # type: ignore[no-untyped-def,type-arg]
    while (event := await call.read()) is not grpc.aio.EOF:
        yield event


async def _stopping(worker: WorkerUnderTest) -> None:
    await worker.until(lambda view: view.instances[0].state is InstanceState.STOPPING)


async def _expect_failed_start(worker: WorkerUnderTest, kind: type[KindlingError], reason: str) -> None:
    with pytest.raises(kind) as caught, remote_errors("the worker"):
        await worker.start()
    assert caught.value.reason == reason
    assert not worker.store.held
    assert not worker.instances.view.instances

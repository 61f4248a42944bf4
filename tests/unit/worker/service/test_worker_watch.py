"""What the worker tells of itself, and how it leaves."""

import asyncio

import grpc
import pytest

from kindling.platform.errors import UnavailableError
from kindling.platform.rpc.channel import remote_errors
from kindling.v1 import cluster_pb2, inference_pb2
from kindling.worker.stream import LEAST_GROWTH_TOKENS
from support.worker_service import (
    WORKER_ID,
    ManualClock,
    generate_request,
    read,
    running_worker,
)


async def test_a_watcher_sees_the_worker_at_once_and_after_changes() -> None:
    async with running_worker(stepped=True) as worker:
        watch = worker.stub.WatchWorker(inference_pb2.WatchWorkerRequest())
        first = await read(watch)
        assert (first.worker_id, len(first.instances), first.draining) == (WORKER_ID, 0, False)
        await worker.start()
        seen = await _until(watch, lambda view: view.instances[0].state == cluster_pb2.INSTANCE_STATE_READY)
        assert seen.instances[0].report.load_seconds == 0.5
        assert (seen.instances[0].instance_id, seen.instances[0].model) == ("m-1", "m")
        call = worker.stub.Generate(generate_request(max_tokens=1))
        await _until(watch, lambda view: list(view.instances[0].generation_ids) == ["g"])
        worker.engines.engine.permits.release(10)
        assert [event async for event in call]
        await _until(watch, lambda view: not view.instances[0].generation_ids)
        await worker.stub.StopInstance(inference_pb2.StopInstanceRequest(instance_id="m-1"))
        await _until(watch, lambda view: not view.instances)


async def test_a_watcher_is_told_whose_the_generations_are() -> None:
    async with running_worker(stepped=True) as worker:
        await worker.start()
        calls = []
        for name, tenant in (("a", "acme"), ("b", "")):
            request = generate_request(name, max_tokens=1)
            request.tenant = tenant
            calls.append(worker.stub.Generate(request))
        watch = worker.stub.WatchWorker(inference_pb2.WatchWorkerRequest())
        seen = await _until(watch, lambda view: len(view.instances[0].generation_ids) == 2)
        assert dict(seen.instances[0].tenants) == {"a": "acme"}
        worker.engines.engine.permits.release(10)
        for call in calls:
            assert [event async for event in call]


async def test_a_watcher_is_told_how_many_tokens_generations_have_as_they_grow() -> None:
    async with running_worker(stepped=True) as worker:
        await worker.start()
        watch = worker.stub.WatchWorker(inference_pb2.WatchWorkerRequest())
        call = worker.stub.Generate(generate_request(max_tokens=1000))
        first = await _until(watch, lambda view: view.instances[0].generation_ids)
        (prompt_tokens,) = first.instances[0].generation_tokens
        worker.engines.engine.permits.release(LEAST_GROWTH_TOKENS + 1)
        grown = await _until(watch, lambda view: list(view.instances[0].generation_tokens) != [prompt_tokens])
        assert prompt_tokens + LEAST_GROWTH_TOKENS <= grown.instances[0].generation_tokens[0]
        call.cancel()
        worker.engines.engine.permits.release(1)


async def test_changes_within_50_milliseconds_are_told_together() -> None:
    clock = ManualClock()
    async with running_worker(clock=clock) as worker:
        views = worker.instances.watch()
        assert not (await anext(views)).instances
        upcoming = asyncio.ensure_future(anext(views))
        await clock.until_sleeping(0.05)
        await worker.start()
        for index in range(5):
            assert [event async for event in worker.stub.Generate(generate_request(f"g{index}"))]
        assert not upcoming.done()
        await clock.advance(0.05, sleeper=0.05)
        view = await upcoming
        assert view.instances[0].report is not None
        assert not view.instances[0].generation_ids
        upcoming = asyncio.ensure_future(anext(views))
        await clock.advance(0.05, sleeper=0.05)
        upcoming.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upcoming


async def test_a_draining_worker_finishes_what_runs_and_takes_nothing_new() -> None:
    async with running_worker(stepped=True, slots=2) as worker:
        await worker.start()
        watch = worker.stub.WatchWorker(inference_pb2.WatchWorkerRequest())
        await read(watch)
        call = worker.stub.Generate(generate_request(max_tokens=3))
        worker.engines.engine.permits.release()
        await read(call)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(worker.instances.drain(60.0))
            last = [view async for view in _rest(watch)][-1]
            assert last.draining
            assert list(last.instances[0].generation_ids) == ["g"]
            with pytest.raises(UnavailableError) as caught, remote_errors("the worker"):
                await worker.start("m-2")
            assert caught.value.reason == "WORKER_DRAINING"
            worker.engines.engine.permits.release(10)
            assert [event async for event in _rest(call)][-1].finished.completion_tokens == 3
        assert not worker.instances.view.instances
        assert not worker.store.held


async def test_draining_gives_up_starts() -> None:
    async with running_worker() as worker:
        worker.store.may_open.clear()
        call = worker.stub.StartInstance(
            inference_pb2.StartInstanceRequest(instance_id="m-1", model="m", checkpoint_digest="d")
        )
        await worker.store.entered.wait()
        await worker.instances.drain(60.0)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in _rest(call):
                pass
        assert caught.value.code() is grpc.StatusCode.CANCELLED


async def _rest(call):  # type: ignore[no-untyped-def]
    while (event := await call.read()) is not grpc.aio.EOF:
        yield event


async def _until(watch, predicate):  # type: ignore[no-untyped-def]
    while True:
        view = await read(watch)
        assert not view.draining
        if predicate(view):
            return view

"""A worker heeds the latest leader that it has heard of, and no earlier one."""

from collections.abc import Awaitable, Callable

import pytest

from kindling.platform.errors import FailedPreconditionError
from kindling.platform.rpc.channel import remote_errors
from kindling.v1 import inference_pb2
from support.worker_service import DIGEST, WorkerUnderTest, running_worker


async def start(worker: WorkerUnderTest, revision: int) -> None:
    request = inference_pb2.StartInstanceRequest(
        instance_id="i", model="m", checkpoint_digest=DIGEST, leader_revision=revision
    )
    async for _ in worker.stub.StartInstance(request):
        pass


async def stop(worker: WorkerUnderTest, revision: int) -> None:
    await worker.stub.StopInstance(inference_pb2.StopInstanceRequest(instance_id="i", leader_revision=revision))


async def watch(worker: WorkerUnderTest, revision: int) -> None:
    call = worker.stub.WatchWorker(inference_pb2.WatchWorkerRequest(leader_revision=revision))
    async for _ in call:
        call.cancel()
        return


async def migrate(worker: WorkerUnderTest, revision: int) -> None:
    request = inference_pb2.MigrateInstanceRequest(
        instance_id="i", target_address="127.0.0.1:1", target_instance_id="j", leader_revision=revision
    )
    async for _ in worker.stub.MigrateInstance(request):
        pass


@pytest.mark.parametrize("ask", [start, stop, watch, migrate])
async def test_an_earlier_leader_is_refused(ask: Callable[[WorkerUnderTest, int], Awaitable[None]]) -> None:
    async with running_worker() as worker:
        await watch(worker, 7)
        with pytest.raises(FailedPreconditionError) as told, remote_errors("worker"):
            await ask(worker, 6)
        assert told.value.reason == "LEADER_DEPOSED"
        assert told.value.metadata["later_revision"] == "7"


async def test_the_same_leader_a_later_one_and_nobody_are_heeded() -> None:
    async with running_worker() as worker:
        for revision in (7, 7, 8, 0, 8):
            await start(worker, revision)
            await stop(worker, revision)

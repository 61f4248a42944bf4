"""A cluster's instances and the moving of generations between them, as a test's thread sees it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from kindling.v1 import cluster_pb2, inference_pb2, inference_pb2_grpc
from support import api
from support.cluster import RunningCluster

SETTLE_SECONDS = 60.0
_PAUSE_SECONDS = 0.02


class Movable:
    """A model with one instance on each of two workers."""

    def __init__(self, cluster: RunningCluster, model: str) -> None:
        self.cluster = cluster
        self.model = model

    def status(self) -> cluster_pb2.GetClusterStatusResponse:
        return api.status(self.cluster.grpc_address)

    def instances(self) -> dict[str, str]:
        """Ready instances by worker id."""
        ready = cluster_pb2.INSTANCE_STATE_READY
        return {i.worker_id: i.instance_id for i in self.status().instances if (i.model, i.state) == (self.model, ready)}

    def address(self, worker_id: str) -> str:
        """Where a worker listens."""
        return next(w.address for node in self.status().nodes for w in node.workers if w.worker_id == worker_id)

    def wait_whole(self) -> None:
        """Return once both workers run an instance."""
        self.cluster.wait_ready()
        until(lambda: len(self.instances()) == 2, "two instances run")

    def generations(self, worker_id: str) -> list[str]:
        """What a worker runs now."""
        with grpc.insecure_channel(self.address(worker_id)) as channel:
            call = inference_pb2_grpc.InferenceServiceStub(channel).WatchWorker(
                inference_pb2.WatchWorkerRequest(), timeout=10
            )
            view = next(iter(call))
            call.cancel()
        return [name for one in view.instances if one.model == self.model for name in one.generation_ids]

    def home(self) -> tuple[str, str]:
        """The worker that runs something, and the other one."""
        workers = sorted(self.instances())
        busy = next((worker for worker in workers if self.generations(worker)), None)
        assert busy is not None, "nothing runs anywhere"
        return busy, next(worker for worker in workers if worker != busy)

    def move(
        self, source: str, target: str, address: str = ""
    ) -> Iterator[inference_pb2.MigrateInstanceResponse]:
        """Have a worker move what it runs; ``address`` is another way to the target."""
        instances = self.instances()
        request = inference_pb2.MigrateInstanceRequest(
            instance_id=instances[source],
            target_address=address or self.address(target),
            target_instance_id=instances[target],
        )
        with grpc.insecure_channel(self.address(source)) as channel:
            yield from inference_pb2_grpc.InferenceServiceStub(channel).MigrateInstance(request, timeout=60)

    def wait_idle(self) -> None:
        """Return once no worker has a generation."""
        until(lambda: not any(self.generations(worker) for worker in self.instances()), "nothing runs any more")


def until(condition, what: str) -> None:  # type: ignore[no-untyped-def]
    """Return once ``condition`` holds."""
    ends = time.monotonic() + SETTLE_SECONDS
    while not condition():
        assert time.monotonic() < ends, f"waited too long until {what}"
        time.sleep(_PAUSE_SECONDS)


@contextmanager
def broken_calls_are_fine() -> Iterator[None]:
    """A call to a process that is killed meanwhile ends as it may."""
    try:
        yield
    except grpc.RpcError:
        return

"""A cluster's instances and the moving of generations between them, as a test's thread sees it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import grpc

from kindling.v1 import cluster_pb2, inference_pb2, inference_pb2_grpc
from support import api
from support.cluster import RunningCluster

SETTLE_SECONDS = 60.0
_PAUSE_SECONDS = 0.02


@dataclass(frozen=True)
class Map:
    """Instances and addresses by worker id."""

    instances: dict[str, str]
    addresses: dict[str, str]

    def move(self, source: str, target: str, address: str = "") -> Iterator[inference_pb2.MigrateInstanceResponse]:
        """See :meth:`Movable.move`."""
        request = inference_pb2.MigrateInstanceRequest(
            instance_id=self.instances[source],
            target_address=address or self.addresses[target],
            target_instance_id=self.instances[target],
        )
        with grpc.insecure_channel(self.addresses[source]) as channel:
            yield from inference_pb2_grpc.InferenceServiceStub(channel).MigrateInstance(request, timeout=60)


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
        mine = [one for one in self.status().instances if one.model == self.model and one.state == ready]
        return {one.worker_id: one.instance_id for one in mine}

    def address(self, worker_id: str) -> str:
        """Where a worker listens."""
        return self.map().addresses[worker_id]

    def wait_whole(self) -> None:
        """Return once both workers run an instance and say so themselves: the status may be of before a kill."""
        self.cluster.wait_ready()
        until(self._is_whole, "two instances run")

    def _is_whole(self) -> bool:
        instances = self.instances()
        try:
            return len(instances) == 2 and all(self._runs(worker, name) for worker, name in instances.items())
        except (grpc.RpcError, LookupError):
            return False

    def _runs(self, worker_id: str, instance_id: str) -> bool:
        return any(one.instance_id == instance_id for one in self._view(worker_id).instances)

    def generations(self, worker_id: str) -> list[str]:
        """What a worker runs now."""
        mine = [one for one in self._view(worker_id).instances if one.model == self.model]
        return [name for one in mine for name in one.generation_ids]

    def _view(self, worker_id: str) -> inference_pb2.WatchWorkerResponse:
        with grpc.insecure_channel(self.address(worker_id)) as channel:
            stub = inference_pb2_grpc.InferenceServiceStub(channel)
            call = stub.WatchWorker(inference_pb2.WatchWorkerRequest(), timeout=10)
            for view in call:
                call.cancel()
                return view
        raise LookupError(f"{worker_id} says nothing")

    def home(self) -> tuple[str, str]:
        """The worker that runs something, and the other one."""
        workers = sorted(self.instances())
        busy = next((worker for worker in workers if self.generations(worker)), None)
        assert busy is not None, "nothing runs anywhere"
        return busy, next(worker for worker in workers if worker != busy)

    def map(self) -> "Map":
        """Where everything is now."""
        status = self.status()
        addresses = {worker.worker_id: worker.address for node in status.nodes for worker in node.workers}
        return Map(self.instances(), addresses)

    def move(self, source: str, target: str, address: str = "") -> Iterator[inference_pb2.MigrateInstanceResponse]:
        """Have a worker move what it runs; ``address`` is another way to the target."""
        return self.map().move(source, target, address)

    def wait_idle(self) -> None:
        """Return once no worker has a generation."""
        until(self._is_idle, "nothing runs any more")

    def _is_idle(self) -> bool:
        try:
            return not any(self.generations(worker) for worker in self.instances())
        except (grpc.RpcError, LookupError):
            return False


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

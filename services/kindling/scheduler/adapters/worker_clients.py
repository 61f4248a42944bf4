"""Workers over gRPC."""

from collections.abc import AsyncGenerator, Sequence

from kindling.platform.errors import UnavailableError
from kindling.platform.rpc.channel import ChannelPool, remote_errors
from kindling.scheduler.domain.values import Instance, LoadProgress, LoadReport, Worker, WorkerReport
from kindling.scheduler.ports import GenerationMoved, GenerationStayed
from kindling.scheduler.wire import progress_from_wire, report_from_wire, worker_report_from_wire
from kindling.v1 import inference_pb2, inference_pb2_grpc


class GrpcWorkers:
    """The workers at the addresses that they registered, asked by the leader that was elected at a revision."""

    def __init__(self, channels: ChannelPool, leader_revision: int) -> None:
        self._channels = channels
        self._revision = leader_revision

    async def watch(self, worker: Worker) -> AsyncGenerator[WorkerReport, None]:
        """Yield what the worker runs, now and at every change, until its stream ends."""
        call = self._stub(worker).WatchWorker(inference_pb2.WatchWorkerRequest(leader_revision=self._revision))
        try:
            with remote_errors(worker.worker_id):
                async for message in call:
                    yield _checked(worker, worker_report_from_wire(message))
        finally:
            call.cancel()

    async def start(
        self, worker: Worker, instance: Instance, others: Sequence[Worker]
    ) -> AsyncGenerator[LoadProgress | LoadReport, None]:
        """Start an instance, or join its start; the last item is the report."""
        request = inference_pb2.StartInstanceRequest(
            instance_id=instance.instance_id,
            model=instance.model,
            checkpoint_digest=instance.digest,
            leader_revision=self._revision,
            other_addresses=[other.address for other in others],
        )
        call = self._stub(worker).StartInstance(request)
        try:
            with remote_errors(worker.worker_id):
                async for message in call:
                    if message.HasField("ready"):
                        yield report_from_wire(message.ready)
                    elif message.HasField("progress"):
                        yield progress_from_wire(message.progress)
        finally:
            call.cancel()

    async def stop(self, worker: Worker, instance_id: str) -> None:
        """Stop an instance once its generations are done, however long that takes; returns when it is gone."""
        request = inference_pb2.StopInstanceRequest(instance_id=instance_id, leader_revision=self._revision)
        with remote_errors(worker.worker_id):
            # No deadline: a drain takes as long as its longest generation, and keepalive notices a dead peer.
            await self._stub(worker).StopInstance(request)

    async def migrate(
        self, worker: Worker, instance_id: str, target: Worker, target_instance_id: str
    ) -> AsyncGenerator[GenerationMoved | GenerationStayed, None]:
        """Have a worker move every generation that it has in an instance; yields what becomes of each."""
        request = inference_pb2.MigrateInstanceRequest(
            instance_id=instance_id,
            target_address=target.address,
            target_instance_id=target_instance_id,
            leader_revision=self._revision,
        )
        call = self._stub(worker).MigrateInstance(request)
        try:
            with remote_errors(worker.worker_id):
                async for message in call:
                    if message.HasField("moved"):
                        yield GenerationMoved(message.moved.generation_id, sum(message.moved.round_tokens))
                    elif message.HasField("stayed"):
                        yield GenerationStayed(message.stayed.generation_id, message.stayed.message)
        finally:
            call.cancel()

    def _stub(self, worker: Worker) -> "inference_pb2_grpc.InferenceServiceAsyncStub":
        return inference_pb2_grpc.InferenceServiceStub(self._channels.get(worker.address))


def _checked(worker: Worker, report: WorkerReport) -> WorkerReport:
    if report.worker_id != worker.worker_id:
        raise UnavailableError(
            f"{worker.address} is not {worker.worker_id} but {report.worker_id}: its port was given to another",
            reason="WRONG_WORKER",
        )
    return report

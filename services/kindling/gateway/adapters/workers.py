"""Workers, over gRPC."""

from collections.abc import AsyncGenerator

from kindling.gateway.adapters.wire import generate_request_of, worker_event_of
from kindling.gateway.domain.events import Alive, Finished, Migrated, Place, TokenBatch
from kindling.gateway.ports import Generation
from kindling.platform.errors import UnavailableError
from kindling.platform.rpc.channel import ChannelPool, remote_errors
from kindling.v1 import inference_pb2_grpc


class GrpcWorkers:
    """Implements :class:`kindling.gateway.ports.Workers`."""

    def __init__(self, channels: ChannelPool) -> None:
        self._channels = channels

    async def generate(
        self, place: Place, generation: Generation
    ) -> AsyncGenerator[TokenBatch | Alive | Migrated | Finished, None]:
        """Run the generation; see the port."""
        stub = inference_pb2_grpc.InferenceServiceStub(self._channels.get(place.worker_address))
        call = stub.Generate(generate_request_of(place.instance_id, generation))
        try:
            with remote_errors(f"worker {place.worker_address}"):
                async for answer in call:
                    event = worker_event_of(answer)
                    yield event
                    if isinstance(event, Migrated | Finished):
                        return
        finally:
            call.cancel()
        raise UnavailableError(f"worker {place.worker_address} broke off", reason="STREAM_INCOMPLETE")

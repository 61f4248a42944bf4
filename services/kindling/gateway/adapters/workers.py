"""Workers, over gRPC."""

from collections.abc import AsyncGenerator

from kindling.gateway.adapters.wire import batch_of, finished_of, generate_request_of
from kindling.gateway.domain.events import Finished, Granted, TokenBatch
from kindling.gateway.ports import Generation
from kindling.platform.errors import UnavailableError
from kindling.platform.rpc.channel import ChannelPool, remote_errors
from kindling.v1 import inference_pb2_grpc


class GrpcWorkers:
    """Implements :class:`kindling.gateway.ports.Workers`."""

    def __init__(self, channels: ChannelPool) -> None:
        self._channels = channels

    async def generate(self, place: Granted, generation: Generation) -> AsyncGenerator[TokenBatch | Finished, None]:
        """Run the generation; see the port."""
        stub = inference_pb2_grpc.InferenceServiceStub(self._channels.get(place.worker_address))
        call = stub.Generate(generate_request_of(place.instance_id, generation))
        try:
            with remote_errors(f"worker {place.worker_address}"):
                async for answer in call:
                    if not answer.HasField("tokens"):
                        yield finished_of(answer.finished)
                        return
                    yield batch_of(answer.tokens)
        finally:
            call.cancel()
        raise UnavailableError(f"worker {place.worker_address} broke off", reason="STREAM_INCOMPLETE")

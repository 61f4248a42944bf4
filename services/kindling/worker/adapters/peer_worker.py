"""Another worker, as one that generations go to, over gRPC."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

from kindling.platform.errors import KindlingError, NotFoundError, UnavailableError
from kindling.platform.rpc.channel import ChannelPool, remote_errors
from kindling.v1 import inference_pb2, inference_pb2_grpc
from kindling.worker import convert_migration
from kindling.worker.domain.generation import GenerationRequest
from kindling.worker.domain.migration import Abandon, Handover, Round

LINGER_SECONDS = 5.0
"""How long a target may take to end a call that the source has left."""
WATCH_SECONDS = 5.0


class PeerWorkers:
    """Other workers by address; usable inside ``async with``.

    Channels ping, so that a worker that hangs is noticed, and calls are never sent twice.
    """

    def __init__(self) -> None:
        self._channels = ChannelPool(retry=False)
        self._tasks = asyncio.TaskGroup()

    def at(self, address: str) -> "PeerWorker":
        """Return the worker that listens at ``address``."""
        return PeerWorker(address, inference_pb2_grpc.InferenceServiceStub(self._channels.get(address)), self._tasks)

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channels.close()
        await self._tasks.__aexit__(kind, error, trace)


class PeerWorker:
    """One of them; see the port ``TargetWorker``."""

    def __init__(
        self, address: str, stub: "inference_pb2_grpc.InferenceServiceAsyncStub", tasks: asyncio.TaskGroup
    ) -> None:
        self.address = address
        self._stub = stub
        self._tasks = tasks

    async def checkpoint_of(self, instance_id: str) -> str:
        """Return what an instance runs there; see the port."""
        watch = self._stub.WatchWorker(inference_pb2.WatchWorkerRequest(), timeout=WATCH_SECONDS)
        with remote_errors(self.address):
            try:
                view = await anext(aiter(watch))
            finally:
                watch.cancel()
        for instance in view.instances:
            if instance.instance_id == instance_id:
                return instance.checkpoint_digest
        raise NotFoundError(
            f"Instance {instance_id!r} does not run at {self.address}; start it there first.",
            reason="INSTANCE_UNKNOWN",
            metadata={"instance_id": instance_id, "address": self.address},
        )

    @asynccontextmanager
    async def receive(self, instance_id: str) -> AsyncIterator["PeerReceiver"]:
        """Begin to send a generation; see the port."""
        receiver = PeerReceiver(self.address, instance_id)
        call = self._stub.ReceiveGeneration(receiver.outgoing())
        listening = self._tasks.create_task(receiver.listen(call))
        try:
            yield receiver
        finally:
            receiver.leave()
            self._tasks.create_task(_linger(call, listening))


class PeerReceiver:
    """A generation on its way; see the port ``Receiver``."""

    def __init__(self, address: str, instance_id: str) -> None:
        self.sent_bytes = 0
        self._address = address
        self._instance_id = instance_id
        self._outgoing: asyncio.Queue[inference_pb2.ReceiveGenerationRequest | None] = asyncio.Queue()
        self._answers: asyncio.Queue[inference_pb2.ReceiveGenerationResponse | KindlingError] = asyncio.Queue()
        self._is_taken_over = False

    async def begin(self, request: GenerationRequest) -> None:
        """Send the generation so far; see the port."""
        await self._ask(convert_migration.begin_to_wire(self._instance_id, request))

    async def round(self, position: int, token_ids: tuple[int, ...]) -> None:
        """Send tokens emitted since; see the port."""
        await self._ask(convert_migration.message_to_wire(Round(position, token_ids)))

    async def hand_over(self, position: int, token_ids: tuple[int, ...]) -> None:
        """Send the last tokens; see the port."""
        await self._ask(convert_migration.message_to_wire(Handover(position, token_ids)))
        self._is_taken_over = True

    def leave(self) -> None:
        """Send nothing more; without a handover, say that the generation is not to be moved."""
        if not self._is_taken_over:
            self._outgoing.put_nowait(convert_migration.message_to_wire(Abandon()))
        self._outgoing.put_nowait(None)

    async def outgoing(self) -> AsyncIterator[inference_pb2.ReceiveGenerationRequest]:
        """Yield what is to be sent, as it comes."""
        while (message := await self._outgoing.get()) is not None:
            yield message

    async def listen(self, call: AsyncIterable[inference_pb2.ReceiveGenerationResponse]) -> None:
        """Take the answers in until the call ends, and then why it ended."""
        try:
            with remote_errors(self._address):
                async for answer in call:
                    self._answers.put_nowait(answer)
        except KindlingError as error:
            self._answers.put_nowait(error)
        else:
            self._answers.put_nowait(self._ended())

    async def _ask(self, message: inference_pb2.ReceiveGenerationRequest) -> None:
        self.sent_bytes += message.ByteSize()
        self._outgoing.put_nowait(message)
        answer = await self._answers.get()
        if isinstance(answer, KindlingError):
            raise answer

    def _ended(self) -> UnavailableError:
        return UnavailableError(
            f"{self._address} ended the call; try another worker.",
            reason="TARGET_ENDED_CALL",
            metadata={"address": self._address},
        )


async def _linger(call: Any, listening: "asyncio.Task[None]") -> None:
    """Let what was sent last arrive, but not for long."""
    await asyncio.wait({listening}, timeout=LINGER_SECONDS)
    call.cancel()

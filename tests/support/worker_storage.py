"""A storage manager that does what a test says: real gRPC, a real Unix socket, real memory files."""

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from kindling.checkpoint.manifest import Manifest, Partition, TensorEntry
from kindling.checkpoint.manifest_json import dump_manifest, sealed
from kindling.platform.fd_passing import Extent, ExtentMessage, receive_token, send_extents, send_refusal
from kindling.platform.rpc.server import RpcServer
from kindling.v1 import checkpoint_pb2, storage_pb2, storage_pb2_grpc

CHUNK = 8192
NO_DIGEST = "blake3:" + "0" * 64


def make_manifest(size_bytes: int, tensors: list[TensorEntry]) -> Manifest:
    """A manifest of one partition with some tensors in it."""
    chunks = tuple(range(-(-size_bytes // CHUNK)))
    return sealed(
        Manifest(
            digest=NO_DIGEST,
            architecture="LlamaForCausalLM",
            model_type="llama",
            torch_dtype="float32",
            parameter_count=1,
            context_length=128,
            chunk_bytes=CHUNK,
            partitions=(Partition("partition-0.safetensors", size_bytes, 0, NO_DIGEST, chunks),),
            files=(),
            tensors=tuple(tensors),
            layers=(),
        )
    )


class ScriptedStorage(storage_pb2_grpc.StorageServiceServicer):
    """Serves one checkpoint; what follows ``opened`` on each lease is what the test puts into ``script``.

    Items of a script are events, errors to raise, or None to end the stream.
    """

    def __init__(self, manifest: Manifest, data: bytes, socket_path: Path) -> None:
        self.manifest = manifest
        self.socket_path = socket_path
        self.script: asyncio.Queue[Any] = asyncio.Queue()
        self.leases = 0
        self.active = 0
        self.changed = asyncio.Event()
        self.token = "secret"
        self.open_error: Exception | None = None  # what the next call fails with
        self.handed_over = threading.Event()
        self._data = data

    async def OpenCheckpoint(
        self, request: storage_pb2.OpenCheckpointRequest, context: Any
    ) -> AsyncIterator[storage_pb2.OpenCheckpointResponse]:
        if self.open_error is not None:
            error, self.open_error = self.open_error, None
            raise error
        self.leases += 1
        self.active += 1
        self._note()
        try:
            yield self._opened()
            while (event := await self.script.get()) is not None:
                if isinstance(event, Exception):
                    raise event
                yield event
        finally:
            self.active -= 1
            self._note()

    async def until(self, *, active: int, leases: int | None = None) -> None:
        """Return when so many leases are held (and so many were ever taken)."""
        while self.active != active or leases not in (None, self.leases):
            await self.changed.wait()

    def arrive(self, first: int, count: int) -> None:
        """Say that chunks have arrived from SSD."""
        arrived = storage_pb2.ChunksArrived(first_chunk=first, chunk_count=count)
        setattr(arrived, "from", checkpoint_pb2.TIER_SSD)
        self.script.put_nowait(storage_pb2.OpenCheckpointResponse(arrived=arrived))

    def finish(self) -> None:
        """Say that every chunk has arrived."""
        self.script.put_nowait(storage_pb2.OpenCheckpointResponse(loaded=checkpoint_pb2.LoadReport(load_seconds=0.25)))

    def serve_memory(self, listener: socket.socket) -> None:
        """Hand the memory over to whoever shows the token, until the listener is closed."""
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            # A client may leave in the middle, if it does not like what it gets.
            with connection, contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._hand_over(connection)
            self.handed_over.set()

    def _hand_over(self, connection: socket.socket) -> None:
        if receive_token(connection) != "secret":
            send_refusal(connection)
            return
        chunks = range(0, len(self._data), CHUNK)
        for offset in chunks:
            piece = self._data[offset : offset + CHUNK]
            fd = os.memfd_create("chunk")
            os.ftruncate(fd, CHUNK)
            os.pwrite(fd, piece, 0)
            extents = (Extent(offset, len(piece), 0, 0),)
            try:
                send_extents(connection, ExtentMessage(0, len(self._data), extents, offset == chunks[-1]), [fd])
            finally:
                os.close(fd)

    def _opened(self) -> storage_pb2.OpenCheckpointResponse:
        memory = storage_pb2.SharedMemoryHandle(socket_path=str(self.socket_path), token=self.token)
        return storage_pb2.OpenCheckpointResponse(
            opened=storage_pb2.CheckpointOpened(
                lease_id=f"lease-{self.leases}",
                manifest_json=dump_manifest(self.manifest),
                files_directory="/files",
                memory=memory,
            )
        )

    def _note(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


@asynccontextmanager
async def scripted_storage(
    manifest: Manifest, data: bytes, directory: Path, *, address: str = "127.0.0.1:0"
) -> AsyncIterator[tuple[ScriptedStorage, str]]:
    """A running storage manager and its address."""
    storage = ScriptedStorage(manifest, data, directory / f"hand-over-{os.urandom(4).hex()}.sock")
    server = RpcServer(address, grace_seconds=0)
    server.add(storage_pb2_grpc.add_StorageServiceServicer_to_server, storage, "kindling.v1.StorageService")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(storage.socket_path))
        listener.listen()
        thread = threading.Thread(target=storage.serve_memory, args=(listener,))
        thread.start()
        try:
            async with server:
                yield storage, server.address
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()

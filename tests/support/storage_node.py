"""A storage manager in this process, and a worker's view of it."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kindling.platform.fd_passing import close_all, request_extents
from kindling.platform.rpc.channel import open_channel, remote_errors
from kindling.storage.app import StorageNode, running
from kindling.storage.settings import StorageSettings
from kindling.v1 import checkpoint_pb2, storage_pb2, storage_pb2_grpc
from support.storage_checkpoint import CHUNK_BYTES


@dataclass
class Place:
    """Directories of a node under test."""

    root: Path

    @property
    def remote(self) -> Path:
        return self.root / "remote"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def copies(self) -> Path:
        return self.cache / "checkpoints"

    def settings(self, **overrides: Any) -> StorageSettings:
        values = {
            "node_id": "node-a",
            "remote_uri": f"file://{self.remote}",
            "cache_dir": self.cache,
            "pool_bytes": 16 * CHUNK_BYTES,
            "chunk_bytes": CHUNK_BYTES,
            "grace_seconds": 1.0,
            "publish_interval_seconds": 0.0,
            # Tests say when something else than their own loads may read the disk.
            "verify_at_start": False,
            "measure_at_start": False,
        }
        return StorageSettings(**(values | overrides))


@asynccontextmanager
async def storage_node(place: Place, **overrides: Any) -> AsyncIterator[tuple[StorageNode, Any]]:
    """Run a storage manager and connect to it."""
    async with running(place.settings(**overrides)) as node, open_channel(node.server.address) as channel:
        yield node, storage_pb2_grpc.StorageServiceStub(channel)


@dataclass
class OpenedCheckpoint:
    """A lease, as a worker sees it."""

    call: Any
    opened: storage_pb2.CheckpointOpened
    arrivals: list[storage_pb2.ChunksArrived] = field(default_factory=list)

    async def loaded(self) -> checkpoint_pb2.LoadReport:
        """Follow the stream until everything has arrived."""
        if self.opened.HasField("loaded"):
            return self.opened.loaded
        while True:
            event = await self.next_event()
            if event.HasField("loaded"):
                return event.loaded
            self.arrivals.append(event.arrived)

    async def next_event(self) -> storage_pb2.OpenCheckpointResponse:
        with remote_errors("storage"):
            event = await self.call.read()
        assert isinstance(event, storage_pb2.OpenCheckpointResponse), "the stream ended early"
        return event

    def take_memory(self) -> "Memory":
        """Redeem the token; blocking."""
        return Memory(Path(self.opened.memory.socket_path), self.opened.memory.token)


@asynccontextmanager
async def open_checkpoint(stub: Any, digest: str, holder: str = "node-a/w0") -> AsyncIterator[OpenedCheckpoint]:
    """Hold a lease."""
    call = stub.OpenCheckpoint(storage_pb2.OpenCheckpointRequest(digest=digest, holder=holder))
    try:
        with remote_errors("storage"):
            first = await call.read()
        yield OpenedCheckpoint(call, first.opened)
    finally:
        call.cancel()


class Memory:
    """What the hand-over gave: descriptors and where their bytes belong."""

    def __init__(self, socket_path: Path, token: str) -> None:
        self.pieces: list[tuple[int, int, int, int, int]] = []  # partition, file offset, length, fd, fd offset
        self.sizes: dict[int, int] = {}
        self.fds: list[int] = []
        for message, fds in request_extents(socket_path, token):
            self.fds += fds
            self.sizes[message.partition] = message.size_bytes
            for e in message.extents:
                self.pieces.append((message.partition, e.file_offset, e.length, fds[e.fd], e.fd_offset))

    def content(self, partition: int = 0) -> bytes:
        """The partition's file, put together."""
        data = bytearray(self.sizes[partition])
        for owner, file_offset, length, fd, fd_offset in self.pieces:
            if owner == partition:
                data[file_offset : file_offset + length] = os.pread(fd, length, fd_offset)
        return bytes(data)

    def close(self) -> None:
        close_all(self.fds)
        self.fds = []


async def all_released(node: StorageNode) -> None:
    """Return when no checkpoint is open any more."""
    for holding in node.use_cases.opens.holdings():
        await holding.gone.wait()

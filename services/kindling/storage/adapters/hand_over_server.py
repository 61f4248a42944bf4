"""The Unix socket on which workers get their checkpoint's memory."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

from kindling.platform.errors import FailedPreconditionError, KindlingError
from kindling.platform.fd_passing import (
    MAX_FDS_PER_MESSAGE,
    Extent,
    ExtentMessage,
    close_all,
    receive_token,
    send_extents,
    send_refusal,
)
from kindling.platform.logging import get_logger
from kindling.storage.adapters.io_executor import IoExecutor
from kindling.storage.contained import outcome
from kindling.storage.hand_over import GrantedExtent, GrantedPartition

log = get_logger(__name__)
# A client has this long for each step; one that is slower is no worker of ours.
_CLIENT_TIMEOUT_SECONDS = 5.0
_BACKLOG = 64


class HandOverServer:
    """Listens on ``path``; ``redeem`` turns a token into memory or refuses it with a KindlingError."""

    def __init__(self, path: Path, redeem: Callable[[str], tuple[GrantedPartition, ...]], io: IoExecutor) -> None:
        self._path = path
        self._redeem = redeem
        self._io = io

    async def run(self, listening: asyncio.Event) -> None:
        """Serve until cancelled; ``listening`` is set once clients can connect."""
        with self._listen() as listener:
            listening.set()
            try:
                async with asyncio.TaskGroup() as clients:
                    while True:
                        connection, _ = await asyncio.get_running_loop().sock_accept(listener)
                        clients.create_task(self._contained(connection))
            finally:
                self._path.unlink(missing_ok=True)

    def _listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            self._path.unlink(missing_ok=True)  # left by a predecessor that was killed
            listener.bind(str(self._path))
            self._path.chmod(0o600)
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            raise FailedPreconditionError(
                f"cannot listen on {self._path}: {error.strerror}; set KINDLING_STORAGE_SOCKET_PATH to another place",
                reason="SOCKET_UNAVAILABLE",
                metadata={"path": str(self._path)},
            ) from error
        return listener

    async def _contained(self, connection: socket.socket) -> None:
        await outcome(self._serve(connection), "a hand-over")

    async def _serve(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(_CLIENT_TIMEOUT_SECONDS)
            try:
                token = await self._io.run(receive_token, connection)
                await self._hand_over(connection, token)
            except (OSError, KindlingError) as error:
                log.warning("hand_over_failed", error=str(error))

    async def _hand_over(self, connection: socket.socket, token: str) -> None:
        try:
            granted = self._redeem(token)
        except KindlingError:
            await self._io.run(send_refusal, connection)
            raise
        try:
            await self._io.run(_send, connection, granted)
        finally:
            close_all([extent.descriptor for partition in granted for extent in partition.extents])


def _send(connection: socket.socket, granted: tuple[GrantedPartition, ...]) -> None:
    batches = list(chain.from_iterable(_batches(partition) for partition in granted))
    for number, (partition, extents) in enumerate(batches, start=1):
        message = ExtentMessage(
            partition.partition,
            partition.size_bytes,
            tuple(Extent(e.file_offset, e.length, fd, e.fd_offset) for fd, e in enumerate(extents)),
            last=number == len(batches),
        )
        send_extents(connection, message, [extent.descriptor for extent in extents])


def _batches(partition: GrantedPartition) -> Iterator[tuple[GrantedPartition, tuple[GrantedExtent, ...]]]:
    for start in range(0, len(partition.extents), MAX_FDS_PER_MESSAGE):
        yield partition, partition.extents[start : start + MAX_FDS_PER_MESSAGE]

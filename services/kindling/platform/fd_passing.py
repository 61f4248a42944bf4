"""Hands open file descriptors and what they hold from one process to another of the same machine, both ends.

A client connects to a Unix socket and sends one line, ``{"token": "..."}``. The server answers with messages, each a
4-byte big-endian length and that much JSON: ``{"partition", "size_bytes", "extents", "last"}``, where an extent is the
row ``[file_offset, length, fd, fd_offset]`` and ``fd`` counts the descriptors of that message. Descriptors ride on a
message's first byte. Rows, since a large checkpoint has hundreds and a warm start waits for them.
"""

import fcntl
import json
import os
import resource
import socket
import struct
from array import array
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from operator import index
from pathlib import Path
from typing import Any

from kindling.platform.errors import DataLossError, PermissionDeniedError, UnavailableError

MAX_FDS_PER_MESSAGE = 250  # the kernel's SCM_MAX_FD is 253
_LENGTH = struct.Struct(">I")
_MAX_MESSAGE_BYTES = 2**20
_MAX_TOKEN_LINE_BYTES = 1024
_EXPECTED_DESCRIPTORS = 1023


@dataclass(frozen=True, slots=True)
class Extent:
    """``length`` bytes at ``file_offset`` of a partition are those at ``fd_offset`` of the ``fd``-th descriptor."""

    file_offset: int
    length: int
    fd: int
    fd_offset: int


@dataclass(frozen=True, slots=True)
class ExtentMessage:
    """Some extents of one partition, in file order; ``last`` ends the whole answer."""

    partition: int
    size_bytes: int
    extents: tuple[Extent, ...]
    last: bool


def send_with_fds(connection: socket.socket, payload: dict[str, Any], fds: Sequence[int]) -> None:
    """Send one message with its descriptors over a blocking Unix stream socket; the caller keeps its descriptors."""
    body = json.dumps(payload, separators=(",", ":")).encode()
    data = _LENGTH.pack(len(body)) + body
    sent = socket.send_fds(connection, [data], list(fds)) if fds else connection.send(data)
    if sent < len(data):  # sending nothing would fail when the peer, having all, has hung up
        connection.sendall(data[sent:])


def receive_with_fds(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Receive one message; the caller owns the descriptors.

    Raises UnavailableError with reason HANDOVER_CLOSED if the peer closes early.
    """
    head, fds, flags = _receive_head(connection)
    try:
        if flags & socket.MSG_CTRUNC:
            raise _garbled("descriptors were cut off; raise this process's limit of open files (ulimit -n)")
        if not head:
            raise _closed()
        (length,) = _LENGTH.unpack(head + _receive_exactly(connection, _LENGTH.size - len(head)))
        if length > _MAX_MESSAGE_BYTES:
            raise _garbled(f"a message of {length} bytes was announced")
        return _parse_json(_receive_exactly(connection, length)), fds
    except BaseException:
        close_all(fds)
        raise


def send_extents(connection: socket.socket, message: ExtentMessage, fds: Sequence[int]) -> None:
    """Send ``message``; its extents count into ``fds``."""
    rows = [(e.file_offset, e.length, e.fd, e.fd_offset) for e in message.extents]
    payload = {"partition": message.partition, "size_bytes": message.size_bytes, "extents": rows, "last": message.last}
    send_with_fds(connection, payload, fds)


def request_extents(
    socket_path: Path, token: str, *, timeout_seconds: float = 10.0
) -> Iterator[tuple[ExtentMessage, list[int]]]:
    """Connect, prove the lease with ``token`` and yield each message with its descriptors, which the caller owns.

    Raises PermissionDeniedError with reason TOKEN_REFUSED if the server does not know the token, UnavailableError with
    reason HANDOVER_CLOSED if it goes away, and OSError if the socket is not there or is too slow.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_seconds)
        connection.connect(str(socket_path))
        connection.sendall(json.dumps({"token": token}).encode() + b"\n")
        last = False
        while not last:
            payload, fds = receive_with_fds(connection)
            message = _parse_message(payload, fds)
            last = message.last
            yield message, fds


def receive_token(connection: socket.socket) -> str:
    """Return the token that a client sent; PermissionDeniedError if what it sent is no token line."""
    line = b""
    while not line.endswith(b"\n"):
        piece = connection.recv(_MAX_TOKEN_LINE_BYTES)
        if not piece or len(line) > _MAX_TOKEN_LINE_BYTES:
            raise _refused("the client sent no token")
        line += piece
    try:
        token = json.loads(line)["token"]
    except (ValueError, KeyError, TypeError) as error:
        raise _refused("the client sent no token") from error
    return str(token)


def send_refusal(connection: socket.socket) -> None:
    """Tell the client that its token is not known, or was used before."""
    send_with_fds(connection, {"error": "TOKEN_REFUSED"}, [])


def make_room_for_descriptors(count: int = _EXPECTED_DESCRIPTORS) -> None:
    """Have the kernel grow this process's descriptor table now, as far as its limit allows.

    It grows by doubling, each time waiting for all processors of a process with threads: 5 to 10 ms on the way of the
    first large hand-over.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    least = min(count, limit - 1)
    with suppress(OSError), Path(os.devnull).open("rb") as any_file:
        os.close(fcntl.fcntl(any_file, fcntl.F_DUPFD_CLOEXEC, least))


def close_all(fds: Sequence[int]) -> None:
    """Close descriptors."""
    for fd in fds:
        os.close(fd)


def _parse_message(payload: dict[str, Any], fds: list[int]) -> ExtentMessage:
    if "error" in payload:
        raise _refused("the storage manager does not know this token, or it was used before; open the checkpoint anew")
    try:
        extents = tuple(Extent(*map(index, row)) for row in payload["extents"])
        message = ExtentMessage(payload["partition"], payload["size_bytes"], extents, payload["last"])
    except (KeyError, TypeError) as error:
        close_all(fds)
        raise _garbled(f"a message lacks something: {error}") from error
    if any(not 0 <= extent.fd < len(fds) for extent in extents):
        close_all(fds)
        raise _garbled("an extent names a descriptor that did not come with it")
    return message


def _receive_head(connection: socket.socket) -> tuple[bytes, list[int], int]:
    # Not socket.recv_fds: it drops its flags, and the descriptors would leak into child processes.
    room = socket.CMSG_LEN(MAX_FDS_PER_MESSAGE * array("i").itemsize)
    head, ancillary, flags, _ = connection.recvmsg(_LENGTH.size, room, socket.MSG_CMSG_CLOEXEC)
    fds = array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return head, fds.tolist(), flags


def _parse_json(body: bytes) -> dict[str, Any]:
    try:
        payload = json.loads(body)
    except ValueError as error:
        raise _garbled("a message is no JSON") from error
    if not isinstance(payload, dict):
        raise _garbled("a message is no JSON object")
    return payload


def _receive_exactly(connection: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        piece = connection.recv(length - len(data))
        if not piece:
            raise _closed()
        data += piece
    return bytes(data)


def _closed() -> UnavailableError:
    return UnavailableError(
        "the storage manager closed the connection before the hand-over was complete; open the checkpoint again",
        reason="HANDOVER_CLOSED",
    )


def _garbled(what: str) -> DataLossError:
    return DataLossError(f"the hand-over of shared memory went wrong: {what}", reason="HANDOVER_GARBLED")


def _refused(message: str) -> PermissionDeniedError:
    return PermissionDeniedError(message, reason="TOKEN_REFUSED")

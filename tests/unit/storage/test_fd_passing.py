"""Both ends of passing descriptors, over real sockets."""

import os
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kindling.platform.errors import DataLossError, PermissionDeniedError, UnavailableError
from kindling.platform.fd_passing import (
    Extent,
    ExtentMessage,
    close_all,
    receive_token,
    receive_with_fds,
    request_extents,
    send_extents,
    send_refusal,
    send_with_fds,
)

NO_SUCH_FD = b'{"partition":0,"size_bytes":9,"last":true,"extents":[[0,9,7,0]]}'
NO_NUMBERS = b'{"partition":0,"size_bytes":9,"last":true,"extents":["abcd"]}'


def serve_once(path: Path, answer: Callable[[socket.socket, str], None]) -> threading.Thread:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def run() -> None:
        connection, _ = listener.accept()
        with listener, connection:
            answer(connection, receive_token(connection))

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def memfd(content: bytes) -> int:
    fd = os.memfd_create("test")
    os.write(fd, content)
    return fd


def test_extents_and_descriptors_arrive_together(tmp_path: Path) -> None:
    fds = [memfd(b"one"), memfd(b"two")]

    def answer(connection: socket.socket, token: str) -> None:
        assert token == "secret"
        send_extents(connection, ExtentMessage(0, 6, (Extent(0, 3, 0, 0),), last=False), fds[:1])
        send_extents(connection, ExtentMessage(0, 6, (Extent(3, 3, 0, 0),), last=True), fds[1:])

    thread = serve_once(tmp_path / "s", answer)
    content = {}
    for message, received in request_extents(tmp_path / "s", "secret"):
        for extent in message.extents:
            content[extent.file_offset] = os.pread(received[extent.fd], extent.length, extent.fd_offset)
            assert not os.get_inheritable(received[extent.fd])
        close_all(received)
    thread.join()
    close_all(fds)
    assert content == {0: b"one", 3: b"two"}


def test_a_full_batch_of_descriptors_fits_one_message() -> None:
    ours, theirs = socket.socketpair()
    fds = [memfd(b"x") for _ in range(250)]
    with ours, theirs:
        send_with_fds(ours, {"numbers": list(range(250))}, fds)
        payload, received = receive_with_fds(theirs)
    assert (len(payload["numbers"]), len(received)) == (250, 250)
    close_all(fds + received)


def test_a_refusal_is_an_error_for_the_client(tmp_path: Path) -> None:
    thread = serve_once(tmp_path / "s", lambda connection, _token: send_refusal(connection))
    with pytest.raises(PermissionDeniedError) as caught:
        list(request_extents(tmp_path / "s", "guess"))
    thread.join()
    assert caught.value.reason == "TOKEN_REFUSED"


def test_a_server_that_goes_away_is_noticed(tmp_path: Path) -> None:
    thread = serve_once(tmp_path / "s", lambda _connection, _token: None)
    with pytest.raises(UnavailableError) as caught:
        list(request_extents(tmp_path / "s", "secret"))
    thread.join()
    assert caught.value.reason == "HANDOVER_CLOSED"


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">I", 2**30),
        struct.pack(">I", 2) + b"{}",
        struct.pack(">I", len(NO_SUCH_FD)) + NO_SUCH_FD,
        struct.pack(">I", len(NO_NUMBERS)) + NO_NUMBERS,
        struct.pack(">I", 3) + b"abc",
        struct.pack(">I", 2) + b"[]",
    ],
    ids=["too long", "lacks fields", "no such descriptor", "no numbers", "not JSON", "no object"],
)
def test_garbled_messages_are_refused(tmp_path: Path, data: bytes) -> None:
    thread = serve_once(tmp_path / "s", lambda connection, _token: connection.sendall(data))
    with pytest.raises(DataLossError):
        list(request_extents(tmp_path / "s", "secret"))
    thread.join()


@pytest.mark.parametrize("line", [b"", b"no json\n", b"[]\n", b'{"key": 1}\n', b"x" * 5000 + b"\n"])
def test_a_client_without_a_token_is_refused(line: bytes) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            ours.sendall(line)
        with pytest.raises(PermissionDeniedError):
            receive_token(theirs)

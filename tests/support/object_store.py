"""Object stores on loopback: S3 as moto serves it, and an HTTP server that fails on command."""

import enum
import socket
import struct
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from moto.server import ThreadedMotoServer

BUCKET = "models"


class Fault(enum.Enum):
    """What happens to one request instead of a right answer."""

    SERVER_ERROR = 500
    NOT_FOUND = 404
    FORBIDDEN = 403
    TOO_MANY = 429
    SHORT_BODY = "fewer bytes than Content-Length says, then the end"
    SHORT_RANGE = "an honest answer with fewer bytes than were asked for"
    SHORT_LENGTH = "a Content-Length and a body that are shorter than Content-Range says"
    LONG_LENGTH = "a Content-Length that is larger than the body"
    WHOLE = "the range is ignored and everything is sent"
    RESET = "half of the body, then a reset"
    SILENCE = "half of the body, then nothing"
    FLIPPED = "one bit is wrong"
    CLOSED = "no answer at all"


class FaultyServer:
    """Serves the files below ``root``. ``faults`` strike the next data requests whose path ends in ``victims``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.faults: list[Fault] = []
        self.always: Fault | None = None
        self.victims = ".safetensors"
        self.requests: list[str] = []
        self.released = threading.Event()
        self.silent = threading.Event()
        self._lock = threading.Lock()
        owner = self

        class Handler(_Handler):
            server_state = owner

        self._server = _Server(("127.0.0.1", 0), Handler)

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def next_fault(self, path: str) -> Fault | None:
        with self._lock:
            self.requests.append(path)
            if not path.endswith(self.victims):
                return None
            return self.faults.pop(0) if self.faults else self.always

    @contextmanager
    def serving(self) -> Iterator["FaultyServer"]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            self.released.set()
            self._server.shutdown()
            self._server.server_close()
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that give up on a faulty answer are expected."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_state: FaultyServer

    def log_message(self, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        path = self._file()
        self.send_response(200 if path else 404)
        self.send_header("Content-Length", str(path.stat().st_size if path else 0))
        self.end_headers()

    def do_GET(self) -> None:
        path = self._file()
        fault = self.server_state.next_fault(self.path)
        if fault is not None and isinstance(fault.value, int):
            self._refuse(fault.value)
        elif fault is Fault.CLOSED:
            self.close_connection = True
        elif path is None:
            self._refuse(404)
        else:
            self._send(path.read_bytes(), fault)

    def _file(self) -> Path | None:
        path = self.server_state.root / unquote(urlsplit(self.path).path).lstrip("/")
        return path if path.is_file() else None

    def _refuse(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, content: bytes, fault: Fault | None) -> None:
        begin, end = self._range(len(content))
        if fault is Fault.SHORT_RANGE:
            end -= 1
        body = bytearray(content) if fault is Fault.WHOLE else bytearray(content[begin:end])
        self.send_response(200 if fault is Fault.WHOLE else 206)
        if fault is not Fault.WHOLE:
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(content)}")
        if fault is Fault.SHORT_LENGTH:
            del body[-1]
        self.send_header("Content-Length", str(len(body) + (10 if fault is Fault.LONG_LENGTH else 0)))
        self.end_headers()
        if fault is Fault.FLIPPED:
            body[0] ^= 1
        self._transfer(bytes(body), fault)

    def _transfer(self, body: bytes, fault: Fault | None) -> None:
        broken = {Fault.SHORT_BODY, Fault.RESET, Fault.SILENCE}
        self.wfile.write(body[: len(body) // 2] if fault in broken else body)
        self.wfile.flush()
        if fault is Fault.SILENCE:
            self.server_state.silent.set()
            self.server_state.released.wait(30)
        if fault is Fault.RESET:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        if fault in broken | {Fault.LONG_LENGTH}:
            self.close_connection = True

    def _range(self, size: int) -> tuple[int, int]:
        header = self.headers.get("Range")
        if header is None:
            return 0, size
        begin, end = header.removeprefix("bytes=").split("-")
        return int(begin), min(int(end) + 1, size)


@contextmanager
def s3_server() -> Iterator[dict[str, str]]:
    """An S3 with an empty bucket; yields the environment that leads clients to it."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    try:
        request = urllib.request.Request(f"{endpoint}/{BUCKET}", method="PUT")
        with urllib.request.urlopen(request) as response:
            assert response.status == 200
        yield {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
        }
    finally:
        server.stop()

"""A real etcd for tests: a process of its own, on its own ports, that dies with the test."""

import asyncio
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kindling.platform.etcd import find_etcd_binary

START_TIMEOUT_SECONDS = 30
# The child arranges its own death at that of the thread that started it, then becomes etcd. No code runs between fork
# and exec in a process whose threads (gRPC's, torch's) may hold locks.
_DIE_WITH_PARENT = (
    "import ctypes, os, signal, sys;"
    "ctypes.CDLL(None).prctl(1, signal.SIGKILL);"
    "os.getppid() == int(sys.argv[1]) or sys.exit('the parent died');"
    "os.execv(sys.argv[2], sys.argv[2:])"
)


class EtcdServer:
    """One member on loopback. Start and stop it in a thread that lives as long as it should."""

    def __init__(self, directory: Path, *, scheme: str = "http", extra_args: Sequence[str] = ()) -> None:
        self.directory = directory
        self._scheme = scheme
        self._extra_args = extra_args
        self._client_port, self._peer_port = _free_ports(2)
        self._process: subprocess.Popen[bytes] | None = None
        self._ready: socket.socket | None = None

    @property
    def endpoint(self) -> str:
        """The address for clients."""
        return f"{self._scheme}://127.0.0.1:{self._client_port}"

    @property
    def pid(self) -> int:
        """The process id of the running etcd."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start etcd on the data and ports it had before, if any, and return when it serves."""
        self.spawn()
        self.wait_until_ready()

    def spawn(self) -> None:
        """Start the process; it may not serve yet."""
        assert self._process is None, "this etcd runs already"
        self._ready = self._listen_for_readiness()
        with (self.directory / "etcd.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-S", "-E", "-c", _DIE_WITH_PARENT, str(os.getpid()), *self._command()],
                env={**os.environ, "NOTIFY_SOCKET": self._ready.getsockname()},
                stdout=log,
                stderr=log,
            )

    def wait_until_ready(self) -> None:
        """Return when this very process serves: it says so itself, as daemons tell systemd."""
        assert self._process is not None
        assert self._ready is not None
        exited = os.pidfd_open(self._process.pid)
        try:
            readable, _, _ = select.select([self._ready, exited], [], [], START_TIMEOUT_SECONDS)
        finally:
            os.close(exited)
        if self._ready not in readable or b"READY=1" not in self._ready.recv(4096):
            raise AssertionError(f"etcd did not start:\n{self.log()[-3000:]}")
        self._ready.close()

    def kill(self) -> None:
        """End etcd with SIGKILL: no shutdown, no last write."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End etcd in good order, if it runs."""
        if self._process is not None:
            self._end(signal.SIGTERM)

    def restart(self) -> None:
        """Start etcd again after :meth:`kill` or :meth:`stop`, on the same ports and data."""
        self.start()

    async def restart_async(self) -> None:
        """Do as :meth:`restart` does, and let the event loop run meanwhile."""
        self.spawn()
        await asyncio.to_thread(self.wait_until_ready)

    def call_json(self, path: str, body: dict[str, Any], token: str = "") -> dict[str, Any]:
        """POST to etcd's JSON gateway: an independent way in, for what the client does not do."""
        headers = {"Authorization": token} if token else {}
        request = urllib.request.Request(f"{self.endpoint}{path}", json.dumps(body).encode(), headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=10) as response:
            return json.load(response)

    def log(self) -> str:
        """What etcd wrote."""
        return (self.directory / "etcd.log").read_text(errors="replace")

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(timeout=30)
        self._process = None
        assert self._ready is not None
        self._ready.close()

    def _listen_for_readiness(self) -> socket.socket:
        path = self.directory / "ready.sock"
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listener.bind(str(path))
        return listener

    def _command(self) -> list[str]:
        binary = find_etcd_binary()
        client = self.endpoint
        peer = f"http://127.0.0.1:{self._peer_port}"
        return [
            *(str(binary), "--name", "test", "--data-dir", str(self.directory / "data"), "--logger", "zap"),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"test={peer}"),
            *(["--unsafe-no-fsync"] if _knows_unsafe_no_fsync(binary) else []),
            *self._extra_args,
        ]


@contextmanager
def running_etcd(*, scheme: str = "http", extra_args: Sequence[str] = ()) -> Iterator[EtcdServer]:
    """Run an etcd of its own during the context, then remove all trace of it."""
    with tempfile.TemporaryDirectory(prefix="kindling-etcd-") as directory:
        server = EtcdServer(Path(directory), scheme=scheme, extra_args=extra_args)
        try:
            server.start()
            yield server
        finally:
            server.stop()


def free_port() -> int:
    """Return a loopback port that nothing listens on."""
    return _free_ports(1)[0]


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _knows_unsafe_no_fsync(binary: Path) -> bool:
    output = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    return not output.startswith("etcd Version: 3.4")

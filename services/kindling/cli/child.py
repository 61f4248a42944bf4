"""A child process of the local cluster: tied to our life, logged to a file, restarted when it dies."""

import asyncio
import enum
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from kindling.platform.clock import Clock
from kindling.platform.errors import InternalError

FIRST_BACKOFF_SECONDS = 0.2
MAX_BACKOFF_SECONDS = 10.0
# A child that lived this long is not in a crash loop.
STEADY_SECONDS = 30.0
_TETHER = str(Path(__file__).with_name("tether.py"))
_LOG_TAIL_LINES = 12
_LOG_TAIL_BYTES = 64 * 1024
# A logged traceback is one line of many thousands.
_LOG_LINE_CHARACTERS = 500


class Role(enum.Enum):
    """What a child is; also the order in which children stop."""

    GATEWAY = "gateway"
    WORKER = "worker"
    SCHEDULER = "scheduler"
    STORAGE = "storage"
    ETCD = "etcd"


class Child:
    """A program, run as a child process; at most one process of it at a time.

    Its session is its own, so that Ctrl-C in the terminal reaches the supervisor alone, which stops children in order.
    """

    def __init__(self, name: str, role: Role, argv: Sequence[str], env: Mapping[str, str], log_path: Path) -> None:
        self.name = name
        self.role = role
        self.log_path = log_path
        self.restarts = 0
        self._argv = list(argv)
        self._env = dict(env)
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False
        self._changing = asyncio.Lock()

    @property
    def process(self) -> asyncio.subprocess.Process:
        """The present process, or the last one; asking before :meth:`start` is a bug."""
        assert self._process is not None, f"{self.name} was never started"
        return self._process

    @property
    def pid(self) -> int:
        """The process's id."""
        return self.process.pid

    async def start(self) -> None:
        """Start the process, its output appended to the log file; nothing happens once :meth:`stop` was called."""
        async with self._changing:
            if not self._stopping:
                self._process = await self._spawn()

    async def _spawn(self) -> asyncio.subprocess.Process:
        command = [sys.executable, "-I", "-S", _TETHER, str(os.getpid()), *self._argv]
        with self.log_path.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env,
                start_new_session=True,
            )

    async def wait(self) -> int:
        """Return the exit status of the present process once it has ended; negative numbers are signals."""
        return await self.process.wait()

    async def fail_when_gone(self) -> NoReturn:
        """Raise CHILD_DIED with the end of the log once the process has ended."""
        status = await self.wait()
        raise InternalError(
            f"{self.name} ended ({describe_status(status)}) while the cluster started. {last_words(self.log_path)}",
            reason="CHILD_DIED",
            metadata={"child": self.name, "status": str(status), "log": str(self.log_path)},
        )

    async def supervise(self, clock: Clock, notify: Callable[[str], None]) -> None:
        """Start the process anew whenever it ends, with growing pauses if it keeps ending, until :meth:`stop`."""
        backoff_seconds = FIRST_BACKOFF_SECONDS
        while True:
            born = clock.now()
            status = await self.wait()
            if self._stopping:
                return
            if clock.now() - born >= STEADY_SECONDS:
                backoff_seconds = FIRST_BACKOFF_SECONDS
            notify(f"{self.name} ended ({describe_status(status)}); starting it again (log: {self.log_path})")
            await clock.sleep(backoff_seconds)
            backoff_seconds = min(backoff_seconds * 2, MAX_BACKOFF_SECONDS)
            self.restarts += 1
            await self.start()

    async def stop(self, grace_seconds: float) -> bool:
        """End the process: SIGTERM, and SIGKILL after the grace. Return whether it ended by itself."""
        async with self._changing:
            self._stopping = True
        process = self._process
        if process is None or process.returncode is not None:
            return True
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace_seconds):
                await process.wait()
        except TimeoutError:
            self._signal(signal.SIGKILL)
            await process.wait()
            return False
        return True

    def _signal(self, number: signal.Signals) -> None:
        try:
            self.process.send_signal(number)
        except ProcessLookupError:
            return


def describe_status(status: int) -> str:
    """Return an exit status to read."""
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


def last_words(path: Path) -> str:
    """Return why a service could not go on, as the last line of its log says; the end of the log if that does not."""
    lines = _last_lines(path)
    try:
        line = json.loads(lines[-1]) if lines else None
    except ValueError:
        line = None
    if isinstance(line, dict) and line.get("event") == "service_failed":
        return f"It says: {line.get('message')} ({line.get('reason')}). Its log is {path}"
    return f"Its log, {path}, ends:\n{log_tail(path)}"


def log_tail(path: Path) -> str:
    """Return the last lines of a log file, indented, long ones cut."""
    return "\n".join(f"  {line[:_LOG_LINE_CHARACTERS]}" for line in _last_lines(path)) or "  (it is empty)"


def _last_lines(path: Path) -> list[str]:
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
        return file.read().decode(errors="replace").splitlines()[-_LOG_TAIL_LINES:]

"""What a running local cluster leaves in its data directory: a lock against a second one, and how to find it."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from kindling.platform.errors import FailedPreconditionError

_LOCK = "lock"
_STATE = "cluster.json"


@dataclass(frozen=True, slots=True)
class ClusterState:
    """A running cluster's supervisor and where its gateway listens."""

    pid: int
    pid_start_seconds: float
    http_port: int
    grpc_port: int

    @classmethod
    def of_this_process(cls, http_port: int, grpc_port: int) -> "ClusterState":
        """Describe a cluster that this process supervises."""
        return cls(os.getpid(), psutil.Process().create_time(), http_port, grpc_port)

    def process(self) -> psutil.Process | None:
        """Return the supervisor if it still runs; a process that merely got its number does not count."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.pid_start_seconds) < 1.0
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


def read_state(data_dir: Path) -> ClusterState | None:
    """Return the state in ``data_dir``, running or not; None if there is none that can be read."""
    try:
        return ClusterState(**json.loads((data_dir / _STATE).read_text()))
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError, TypeError):
        return None


@contextmanager
def published_state(data_dir: Path, state: ClusterState) -> Iterator[None]:
    """Let ``kindling down`` find this cluster."""
    path = data_dir / _STATE
    fresh = path.with_suffix(".json.new")
    fresh.write_text(json.dumps(asdict(state)))
    fresh.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """Hold the data directory; DATA_DIR_IN_USE if another process does. The kernel frees it when the holder dies."""
    with (data_dir / _LOCK).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise _in_use(data_dir, file.read().strip()) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _in_use(data_dir: Path, pid: str) -> FailedPreconditionError:
    return FailedPreconditionError(
        f"{data_dir} is in use by another cluster (process {pid or 'unknown'}); "
        f"stop it with `kindling down --data-dir {data_dir}`, or take another --data-dir",
        reason="DATA_DIR_IN_USE",
        metadata={"pid": pid, "data_dir": str(data_dir)},
    )

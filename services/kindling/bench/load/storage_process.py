"""A storage manager in a process of its own."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import IO, Self

from kindling.platform.errors import FailedPreconditionError

START_SECONDS = 120.0
_PREFIX = "KINDLING_STORAGE_"
# The disk and memory are the benchmark's alone.
_QUIET = {"measure_at_start": "false", "verify_at_start": "false"}


class StorageProcess:
    """Runs inside ``with``; ``settings`` are names of storage settings in lower case."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        ours = {_PREFIX + name.upper(): value for name, value in (_QUIET | dict(settings)).items()}
        self._environment = dict(os.environ) | ours
        self._touched = threading.Event()
        self._last_error = ""
        self.backing = ""

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "kindling.bench.load.storage_main"]
        self._process = subprocess.Popen(
            command, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._logs = threading.Thread(target=self._read_logs, args=(self._process.stderr,), daemon=True)
        self._logs.start()
        assert self._process.stdout is not None, "it was asked for"
        self.address = self._process.stdout.readline().strip()
        if not self.address:
            self._stop()
            raise FailedPreconditionError(
                f"the storage manager did not start: {self._last_error}", reason="STORAGE_NOT_STARTED"
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def wait_touched(self) -> None:
        """Return when every page of the pool is present; FailedPreconditionError if that does not come."""
        if not self._touched.wait(START_SECONDS):
            raise FailedPreconditionError(
                f"the pool was not touched within {START_SECONDS:.0f} s", reason="POOL_NOT_TOUCHED"
            )

    def _read_logs(self, stream: IO[str]) -> None:
        for line in stream:
            try:
                event = json.loads(line)
            except ValueError:
                self._last_error = line.strip() or self._last_error
                continue
            self._note(event)

    def _note(self, event: Mapping[str, str]) -> None:
        if event.get("event") == "pool_touched":
            self._touched.set()
        elif event.get("event") == "pool_allocated":
            self.backing = event["backing"]
        elif event.get("level") in {"error", "warning"}:
            self._last_error = json.dumps(event)

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._logs.join()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

"""Measurements in processes of their own: memory is fresh for each, and nobody inherits what another one warmed up."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

from kindling.platform.errors import FailedPreconditionError

LONGEST_SECONDS = 900.0
_LAST_LINES = 1500
Answer = dict[str, Any]


def answer_parent(measure: Callable[[Answer], Mapping[str, Any]]) -> None:
    """The child's whole program: read one request from standard input, write one answer to standard output."""
    request = json.loads(sys.stdin.read())
    answer = measure(request)
    sys.stdout.write("\n" + json.dumps(dict(answer)) + "\n")


def ask_child(module: str, request: Mapping[str, Any], started: Callable[[int], None] | None = None) -> Answer:
    """Run ``python -m module`` with ``request`` and return its answer; ``started`` is told the process id.

    Raises:
        FailedPreconditionError: MEASUREMENT_FAILED, with the end of what the child said.
    """
    command = [sys.executable, "-m", module]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        if started is not None:
            started(child.pid)
        watchdog = threading.Timer(LONGEST_SECONDS, child.kill)
        watchdog.start()
        try:
            output, errors = child.communicate(json.dumps(dict(request)))
        finally:
            watchdog.cancel()
            child.kill()
    if child.returncode != 0:
        raise _failed(module, errors)
    answer: Answer = json.loads(output.strip().splitlines()[-1])
    return answer


def _failed(module: str, errors: str) -> FailedPreconditionError:
    lines = [line for line in errors[-_LAST_LINES:].splitlines() if line.strip()]
    return FailedPreconditionError(lines[-1] if lines else f"{module} was killed", reason="MEASUREMENT_FAILED")

"""Measurements in processes of their own: memory is fresh for each, and nobody inherits what another one warmed up."""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

from kindling.platform.errors import FailedPreconditionError

LONGEST_SECONDS = 900.0
_LONGEST_ERROR = 500
_ERROR = re.compile(r"^[ |]*[\w.]+(Error|Exception)\b")
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
    lines = [line.strip(" |") for line in errors.splitlines() if _ERROR.search(line)]
    why = lines[-1][:_LONGEST_ERROR] if lines else errors[-_LONGEST_ERROR:] or f"{module} was killed"
    return FailedPreconditionError(why, reason="MEASUREMENT_FAILED")

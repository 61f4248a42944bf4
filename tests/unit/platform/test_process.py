"""A service process ends as asked, and says in one line why it could not go on."""

import json
import signal
import subprocess
import sys

SERVICE = """
from kindling.platform.errors import FailedPreconditionError
from kindling.platform.process import Shutdown, run_service
from kindling.platform.settings import ServiceSettings

async def serve(shutdown: Shutdown) -> None:
    print("ready", flush=True)
    {body}

run_service("sample", ServiceSettings(), serve)
"""


def start(body: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SERVICE.format(body=body)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_sigterm_ends_it_with_zero() -> None:
    process = start("await shutdown.requested.wait()")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert json.loads(errors.splitlines()[-1])["event"] == "service_stopped"


def test_a_known_error_is_one_line() -> None:
    process = start('raise FailedPreconditionError("do this", reason="SOME_REASON", metadata={"port": "1"})')
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    (line,) = errors.splitlines()
    assert {
        "event": "service_failed",
        "reason": "SOME_REASON",
        "message": "do this",
        "port": "1",
    }.items() <= json.loads(line).items()


def test_a_bug_leaves_its_trace() -> None:
    process = start("1 / 0")
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    record = json.loads(errors.splitlines()[-1])
    assert record["event"] == "service_crashed"
    assert "ZeroDivisionError" in json.dumps(record["exception"])


def test_what_was_imported_is_left_out_of_garbage_collections() -> None:
    process = start("import gc; print(gc.get_freeze_count(), len(gc.get_objects()), flush=True)")
    output, _ = process.communicate(timeout=30)
    frozen, looked_at = map(int, output.splitlines()[1].split())
    assert frozen > 10 * looked_at

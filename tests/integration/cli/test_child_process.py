"""Children of the local cluster, as real processes."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap

import psutil
import pytest

from kindling.cli.child import Child, Role, log_tail
from kindling.platform.clock import SystemClock
from kindling.platform.errors import InternalError


def python_child(tmp_path, code, name="child"):
    argv = [sys.executable, "-c", textwrap.dedent(code)]
    return Child(name, Role.WORKER, argv, os.environ, tmp_path / f"{name}.log")


class RecordingClock(SystemClock):
    """Does not sleep; ends the test's patience after ``naps``."""

    def __init__(self, naps):
        self.slept = []
        self.naps = naps

    async def sleep(self, seconds):
        self.slept.append(seconds)
        if len(self.slept) == self.naps:
            raise EnoughError


class EnoughError(Exception):
    pass


async def wait_for_line(fifo):
    return await asyncio.to_thread(fifo.read_text)


async def test_a_child_runs_in_a_session_of_its_own_and_stops_at_sigterm(tmp_path):
    child = python_child(tmp_path, "import time; time.sleep(1000)")
    await child.start()
    assert os.getsid(child.pid) == child.pid
    assert await child.stop(grace_seconds=10)
    assert child.process.returncode == -signal.SIGTERM


async def test_a_child_that_ignores_sigterm_is_killed_after_the_grace(tmp_path):
    fifo = tmp_path / "ready"
    os.mkfifo(fifo)
    child = python_child(
        tmp_path,
        f"""
        import pathlib, signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        pathlib.Path({str(fifo)!r}).write_text("deaf")
        time.sleep(1000)
        """,
    )
    await child.start()
    assert await wait_for_line(fifo) == "deaf"
    assert not await child.stop(grace_seconds=0.05)
    assert child.process.returncode == -signal.SIGKILL


async def test_output_goes_to_the_log_and_a_death_at_start_quotes_it(tmp_path):
    child = python_child(tmp_path, "print('line one'); raise SystemExit('no room on the disk')")
    await child.start()
    with pytest.raises(InternalError, match=r"child ended \(exit status 1\).*\n.*line one\n.*no room") as caught:
        await child.fail_when_gone()
    assert caught.value.reason == "CHILD_DIED"
    assert caught.value.metadata["log"] == str(tmp_path / "child.log")


async def test_a_child_that_keeps_dying_is_restarted_with_growing_pauses(tmp_path):
    child = python_child(tmp_path, "raise SystemExit(3)")
    clock, notices = RecordingClock(naps=8), []
    await child.start()
    with pytest.raises(EnoughError):
        await child.supervise(clock, notices.append)
    assert clock.slept == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10])
    assert child.restarts == 7
    assert "child ended (exit status 3); starting it again" in notices[0]


async def test_a_killed_child_is_restarted_until_it_is_stopped(tmp_path):
    others = psutil.Process().children()  # those of fixtures that outlive this test
    child = python_child(tmp_path, "import time; time.sleep(1000)")
    await child.start()
    killed, noticed = child.process, asyncio.Event()
    async with asyncio.TaskGroup() as group:
        supervision = group.create_task(child.supervise(SystemClock(), lambda _: noticed.set()))
        killed.kill()
        await noticed.wait()
        # Stopping in the middle of the pause before a restart must not leave the next process behind.
        await child.stop(grace_seconds=10)
        supervision.cancel()
    left = [one for one in psutil.Process().children() if one.pid != killed.pid and one.status() != "zombie"]
    assert left == others


async def test_nothing_starts_after_stop(tmp_path):
    child = python_child(tmp_path, "import time; time.sleep(1000)")
    await child.start()
    await child.stop(grace_seconds=10)
    before = child.process
    await child.start()
    assert child.process is before


def test_children_of_a_killed_supervisor_die_with_it(tmp_path):
    code = f"""
    import asyncio, os, pathlib, sys
    from kindling.cli.child import Child, Role

    async def main():
        child = Child("child", Role.WORKER, [sys.executable, "-c", "import time; time.sleep(1000)"], os.environ,
                      pathlib.Path({str(tmp_path / "log")!r}))
        await child.start()
        print(child.pid, flush=True)
        await asyncio.Event().wait()

    asyncio.run(main())
    """
    supervisor = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    with supervisor:
        child = psutil.Process(int(supervisor.stdout.readline()))
        supervisor.kill()
        supervisor.wait()
        child.wait(timeout=10)
    assert not child.is_running()


def test_the_end_of_a_long_log_is_cut_at_whole_lines(tmp_path):
    log = tmp_path / "log"
    log.write_text("".join(f"line {number}\n" for number in range(10_000)))
    assert log_tail(log).splitlines() == [f"  line {number}" for number in range(9_988, 10_000)]
    log.write_text("")
    assert log_tail(log) == "  (it is empty)"

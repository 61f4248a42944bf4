"""`kindling up` and `kindling down` as a user runs them: processes of their own, over a whole cluster."""

import os
import signal
import subprocess
import sys

import psutil
import pytest

from kindling.cli.ports import free_ports
from kindling.cli.state_file import read_state

pytestmark = pytest.mark.slow
KINDLING = [sys.executable, "-m", "kindling.cli.main"]
SECONDS = 100


def kindling(*arguments, **environment):
    env = os.environ | environment
    return subprocess.run(
        [*KINDLING, *arguments], check=False, capture_output=True, text=True, timeout=SECONDS, env=env
    )


def family_of(process):
    return [process, *process.children(recursive=True)]


def gone(processes):
    _, alive = psutil.wait_procs(processes, timeout=20)
    return not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]


class Up:
    """A cluster's arguments, and what runs of it."""

    def __init__(self, data_dir):
        self.data_dir = data_dir
        http_port, self.grpc_port = free_ports(2)
        self.arguments = [
            *("up", "--engine", "fake", "--data-dir", str(data_dir), "--dram-pool", "64MiB"),
            *("--http-port", str(http_port), "--grpc-port", str(self.grpc_port)),
        ]
        self.processes = []

    def detached(self):
        result = kindling(*self.arguments, "--detach")
        if result.returncode == 0:
            self.processes = family_of(psutil.Process(read_state(self.data_dir).pid))
        return result

    def down(self, *options):
        return kindling("down", "--data-dir", str(self.data_dir), *options)


@pytest.fixture
def up(tmp_path):
    up = Up(tmp_path / "data")
    yield up
    if state := read_state(up.data_dir):
        for process in family_of(state.process()) if state.process() else []:
            process.kill()


def test_up_refuses_a_second_one_and_down_leaves_nothing(up):
    started = up.detached()
    assert (started.returncode, "ready" in started.stdout) == (0, True), started.stderr
    assert f"kindling deploy NAME --source DIR --address 127.0.0.1:{up.grpc_port};" in started.stdout
    assert f"kindling down --data-dir {up.data_dir}, stops it" in started.stdout

    status = kindling("status", KINDLING_ADDRESS=f"127.0.0.1:{up.grpc_port}")
    assert status.returncode == 0
    assert "scheduler-0 leads" in status.stdout
    assert "node-0/worker-0" in status.stdout

    second = kindling(*up.arguments)
    assert second.returncode == 1
    assert "DATA_DIR_IN_USE" in second.stderr
    assert str(read_state(up.data_dir).pid) in second.stderr

    stopped = up.down()
    assert (stopped.returncode, stopped.stdout) == (0, "stopped\n")
    assert gone(up.processes)
    assert "no cluster runs" in up.down().stdout


def test_a_killed_supervisor_leaves_no_children_and_its_directory_starts_again(up):
    assert up.detached().returncode == 0
    supervisor, *children = up.processes
    assert len(children) == 5  # etcd, a scheduler, a storage manager, a worker, a gateway
    supervisor.kill()
    assert gone([supervisor, *children])
    assert "no cluster runs" in up.down().stdout

    again = up.detached()
    assert again.returncode == 0, again.stderr
    assert up.down().returncode == 0
    assert gone(up.processes)


def test_ctrl_c_drains_and_stops_a_cluster_in_the_foreground(up):
    with subprocess.Popen([*KINDLING, *up.arguments], stdout=subprocess.PIPE, text=True) as process:
        ready = process.stdout.readline()
        family = family_of(psutil.Process(process.pid))
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(SECONDS) == 0
    assert "ready" in ready
    assert gone(family)


def test_detach_passes_on_why_it_failed(up):
    up.data_dir.mkdir()
    (up.data_dir / "etcd").write_text("in the way")
    result = up.detached()
    assert result.returncode == 1
    assert "DATA_DIR_UNUSABLE" in result.stderr

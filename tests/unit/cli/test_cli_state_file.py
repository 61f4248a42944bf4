import os
import subprocess
import sys

import psutil
import pytest

from kindling.cli.state_file import ClusterState, locked, published_state, read_state
from kindling.platform.errors import FailedPreconditionError


def test_a_published_state_is_found_while_it_holds(tmp_path):
    state = ClusterState.of_this_process(8080, 8081)
    with published_state(tmp_path, state):
        found = read_state(tmp_path)
        assert found == state
        assert found.process().pid == os.getpid()
    assert read_state(tmp_path) is None


@pytest.mark.parametrize("content", ["", "{", "{}", '{"pid": 1}', "[]"])
def test_a_broken_state_counts_as_none(tmp_path, content):
    (tmp_path / "cluster.json").write_text(content)
    assert read_state(tmp_path) is None


def test_a_data_directory_that_is_not_there_has_no_state(tmp_path):
    assert read_state(tmp_path / "missing") is None


def test_another_process_with_the_same_number_is_not_the_cluster():
    state = ClusterState(os.getpid(), psutil.Process().create_time() - 100, 8080, 8081)
    assert state.process() is None


def test_a_dead_process_is_not_the_cluster():
    child = subprocess.Popen([sys.executable, "-c", ""])
    state = ClusterState(child.pid, psutil.Process(child.pid).create_time(), 8080, 8081)
    child.wait()
    assert state.process() is None


def test_a_data_directory_is_held_by_one_at_a_time(tmp_path):
    with locked(tmp_path):
        with pytest.raises(FailedPreconditionError, match=f"process {os.getpid()}") as caught, locked(tmp_path):
            pytest.fail("two hold it")
        assert caught.value.reason == "DATA_DIR_IN_USE"
        assert caught.value.metadata["pid"] == str(os.getpid())
    with locked(tmp_path):
        assert (tmp_path / "lock").read_text() == str(os.getpid())

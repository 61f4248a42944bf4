import os
from pathlib import Path

import pytest

from kindling.cli.layout import MAX_SOCKET_PATH_BYTES, Layout
from kindling.cli.options import ClusterOptions, default_pool_bytes
from kindling.cli.ports import free_ports, require_free
from kindling.platform.errors import FailedPreconditionError

GIB = 2**30


@pytest.mark.parametrize(
    ("available", "nodes", "pool"),
    [(64 * GIB, 1, 4 * GIB), (8 * GIB, 1, 2 * GIB), (8 * GIB, 2, GIB), (GIB // 4, 1, GIB // 4)],
)
def test_the_default_pool_is_a_share_of_free_memory_with_bounds(available, nodes, pool):
    assert default_pool_bytes(available, nodes) == pool


def test_workers_share_the_cores():
    cores = len(os.sched_getaffinity(0))
    assert ClusterOptions(nodes=1, workers_per_node=1).threads_per_worker == cores
    assert ClusterOptions(nodes=2, workers_per_node=cores).threads_per_worker == 1


def test_ids_name_node_and_worker():
    options = ClusterOptions(nodes=2, workers_per_node=2)
    assert options.worker_ids == ["node-0/worker-0", "node-0/worker-1", "node-1/worker-0", "node-1/worker-1"]


def test_sockets_stay_in_a_data_directory_with_a_short_path():
    import tempfile

    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        layout = Layout.create(Path(directory))
        assert layout.socket("node-0") == Path(directory) / "nodes/node-0/storage.sock"


def test_sockets_of_a_data_directory_with_a_long_path_are_elsewhere_and_removed_at_the_end(tmp_path):
    layout = Layout.create(tmp_path / ("long" * 40))
    socket = layout.socket("node-0")
    assert len(bytes(socket)) <= MAX_SOCKET_PATH_BYTES
    assert socket.parent.is_dir()
    layout.close()
    assert not layout.sockets_dir.exists()
    assert layout.data_dir.exists()


def test_what_a_crash_left_of_a_socket_is_removed(tmp_path):
    layout = Layout.create(tmp_path / ("long" * 40))
    layout.socket("node-0").touch()
    assert not layout.socket("node-0").exists()
    layout.close()


def test_the_log_before_is_kept_beside_a_fresh_one(tmp_path):
    layout = Layout.create(tmp_path)
    layout.fresh_log("node-0/storage").write_text("yesterday")
    fresh = layout.fresh_log("node-0/storage")
    assert not fresh.exists()
    assert fresh.with_suffix(".log.old").read_text() == "yesterday"


def test_a_file_in_the_way_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FailedPreconditionError, match="choose another --data-dir") as caught:
        Layout.create(tmp_path / "file")
    assert caught.value.reason == "DATA_DIR_UNUSABLE"


def test_a_taken_port_is_said_with_the_option_to_change():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(FailedPreconditionError, match="choose another --http-port") as caught:
            require_free(port, "--http-port")
    assert caught.value.reason == "PORT_IN_USE"
    require_free(port, "--http-port")


def test_free_ports_differ():
    assert len(set(free_ports(20))) == 20

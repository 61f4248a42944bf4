"""What a local cluster refuses to start on, and what it says when a part of it cannot start."""

import dataclasses
import re
import socket

import psutil
import pytest

from kindling.cli.cluster import local_cluster
from kindling.cli.state_file import locked, read_state
from kindling.platform.errors import KindlingError
from support.cluster import cluster_options


def living_children():
    return [one for one in psutil.Process().children(recursive=True) if one.status() != psutil.STATUS_ZOMBIE]


async def refusal(options):
    others = living_children()  # those of fixtures that outlive this test
    with pytest.raises(KindlingError) as caught:
        async with local_cluster(options):
            pytest.fail("it started")
    assert living_children() == others
    return caught.value


async def test_a_data_directory_in_use_is_refused_before_anything_starts(tmp_path):
    with locked(tmp_path):
        error = await refusal(cluster_options(tmp_path))
    assert error.reason == "DATA_DIR_IN_USE"
    assert f"kindling down --data-dir {tmp_path}" in error.message
    assert not list((tmp_path / "logs").iterdir())


@pytest.mark.parametrize("option", ["http_port", "grpc_port"])
async def test_a_taken_port_is_refused_before_anything_starts(tmp_path, option):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        error = await refusal(cluster_options(tmp_path, **{option: taken.getsockname()[1]}))
    assert error.reason == "PORT_IN_USE"
    assert not list((tmp_path / "logs").iterdir())


async def test_one_port_for_both_is_refused_before_anything_starts(tmp_path):
    options = cluster_options(tmp_path)
    error = await refusal(dataclasses.replace(options, http_port=options.grpc_port))
    assert error.reason == "PORT_IN_USE"
    assert "cannot serve both" in error.message
    assert not list((tmp_path / "logs").iterdir())


async def test_a_service_that_says_why_it_cannot_start_is_quoted_to_be_read(tmp_path):
    error = await refusal(cluster_options(tmp_path, dram_pool_bytes=64 << 40))
    assert error.reason == "CHILD_DIED"
    assert "It says: the DRAM pool needs" in error.message
    assert re.search(r"needs \d+ bytes of memory \(6553\d\.\d GiB\), and \d+ \(\d+\.\d GiB\) are", error.message)
    assert "--dram-pool" in error.message
    assert "{" not in error.message


async def test_an_etcd_that_cannot_start_is_quoted_and_the_directory_is_free_again(tmp_path):
    (tmp_path / "etcd").mkdir()
    (tmp_path / "etcd" / "member").write_text("not a directory")
    error = await refusal(cluster_options(tmp_path))
    assert error.reason == "CHILD_DIED"
    assert error.message.startswith("etcd ended (exit status 1) while the cluster started")
    assert "not a directory" in error.message
    assert read_state(tmp_path) is None
    with locked(tmp_path):
        pass


async def test_a_service_with_a_bad_setting_is_quoted_and_the_rest_is_stopped(tmp_path):
    bad = (("KINDLING_STORAGE_POOL_BYTES", "banana"),)
    error = await refusal(cluster_options(tmp_path, extra_env=bad))
    assert error.reason == "CHILD_DIED"
    assert error.message.startswith("node-0/storage ended (exit status 78)")
    assert "KINDLING_STORAGE_POOL_BYTES" in error.message

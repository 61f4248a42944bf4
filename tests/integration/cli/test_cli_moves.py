"""`kindling migrate`, `drain` and `undrain` against a real gRPC server that answers as a gateway does."""

import asyncio
import threading
from concurrent.futures import Future

import pytest
from typer.testing import CliRunner

from kindling.cli.main import app
from kindling.platform.errors import AbortedError, NotFoundError, ResourceExhaustedError
from kindling.platform.rpc.server import RpcServer
from kindling.v1 import cluster_pb2, cluster_pb2_grpc

runner = CliRunner()
STARTING, MOVING, DONE = (
    cluster_pb2.MIGRATION_STAGE_STARTING,
    cluster_pb2.MIGRATION_STAGE_MOVING,
    cluster_pb2.MIGRATION_STAGE_DONE,
)


def status(instance_id, stage, moved=0):
    return cluster_pb2.MigrationStatus(
        instance_id=instance_id, target_instance_id="m-9", target_worker_id="n/w", stage=stage, moved=moved
    )


class Cluster(cluster_pb2_grpc.ClusterServiceServicer):
    """Tells what the test says; an error in `told` is raised."""

    def __init__(self):
        self.told = []
        self.requests = []

    async def MigrateModel(self, request, context):
        self.requests.append(request)
        for one in self.told:
            if isinstance(one, Exception):
                raise one
            yield cluster_pb2.MigrateModelResponse(migrations=one)

    async def DrainNode(self, request, context):
        self.requests.append(request)
        for one in self.told:
            if isinstance(one, Exception):
                raise one
            yield one

    async def UndrainNode(self, request, context):
        self.requests.append(request)
        if self.told:
            raise self.told[0]
        return cluster_pb2.UndrainNodeResponse()


@pytest.fixture
def cluster(monkeypatch):
    cluster, ended, started = Cluster(), asyncio.Event(), Future()

    async def serve():
        server = RpcServer("127.0.0.1:0", grace_seconds=0)
        server.add(cluster_pb2_grpc.add_ClusterServiceServicer_to_server, cluster, "kindling.v1.ClusterService")
        async with server:
            started.set_result((server.address, asyncio.get_running_loop()))
            await ended.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    address, loop = started.result(10)
    monkeypatch.setenv("KINDLING_ADDRESS", address)
    yield cluster
    loop.call_soon_threadsafe(ended.set)
    thread.join()


def test_migrate_says_what_moved(cluster):
    cluster.told = [[status("m-1", STARTING)], [status("m-1", MOVING, 2)], [status("m-1", DONE, 3)]]
    result = runner.invoke(app, ["migrate", "m", "--to", "n/w", "--from", "n/v"])
    assert (result.exit_code, result.stdout) == (0, "moved 3 generations of m to n/w, none stayed\n")
    assert cluster.requests == [
        cluster_pb2.MigrateModelRequest(model="m", to_worker_id="n/w", from_worker_id="n/v"),
    ]


def test_migrate_counts_what_an_earlier_leader_told_of(cluster):
    cluster.told = [[status("m-1", MOVING, 1), status("m-2", MOVING, 1)], [status("m-2", DONE, 0)], []]
    result = runner.invoke(app, ["migrate", "m", "--to", "n/w"])
    assert (result.exit_code, result.stdout) == (0, "moved 2 generations of m to n/w, none stayed\n")


def test_migrate_with_nothing_to_do_says_so(cluster):
    cluster.told = [[]]
    result = runner.invoke(app, ["migrate", "m", "--to", "n/w"])
    assert (result.exit_code, result.stdout) == (0, "nothing to move: m runs on n/w already\n")
    assert cluster.requests[0].from_worker_id == ""


@pytest.mark.parametrize(
    "error",
    [
        AbortedError("1 generation(s) went on in m-1: too long", reason="GENERATIONS_STAYED"),
        ResourceExhaustedError("worker n/w has no free slot: it runs x", reason="NO_FREE_SLOT"),
    ],
)
def test_migrate_that_fails_says_why(cluster, error):
    cluster.told = [[status("m-1", MOVING, 1)], error]
    result = runner.invoke(app, ["migrate", "m", "--to", "n/w"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"error: {error.message} ({error.reason})" in result.stderr


def test_drain_says_what_is_in_the_way_once_and_when_it_is_over(cluster):
    waiting = cluster_pb2.DrainNodeResponse(instances=1, generations=2, obstacle="m-1 has nowhere to go")
    cluster.told = [waiting, waiting, cluster_pb2.DrainNodeResponse(instances=1), cluster_pb2.DrainNodeResponse()]
    result = runner.invoke(app, ["drain", "n"])
    assert result.exit_code == 0
    assert result.stderr.count("waiting: m-1 has nowhere to go") == 1
    assert "n is drained: nothing runs there, it can be taken down; kindling undrain n" in result.stdout
    assert cluster.requests == [cluster_pb2.DrainNodeRequest(node_id="n")]


def test_undrain(cluster):
    result = runner.invoke(app, ["undrain", "n"])
    assert (result.exit_code, result.stdout) == (0, "n serves again\n")
    assert cluster.requests == [cluster_pb2.UndrainNodeRequest(node_id="n")]


@pytest.mark.parametrize("command", ["drain", "undrain"])
def test_an_unknown_node_is_a_failure(cluster, command):
    cluster.told = [NotFoundError("there is no node 'x'", reason="NODE_UNKNOWN")]
    result = runner.invoke(app, [command, "x"])
    assert (result.exit_code, "NODE_UNKNOWN" in result.stderr) == (1, True)

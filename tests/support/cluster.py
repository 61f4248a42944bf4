"""A local cluster for tests that need all of Kindling: real processes, fresh ports, a data directory of its own.

The supervisor runs on a thread with an event loop of its own, so that a fixture of any scope can hold a cluster and
tests of any loop can use it. The methods here are for the test's thread; they block.
"""

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from kindling.cli.cluster import LocalCluster, local_cluster
from kindling.cli.options import ClusterOptions, EngineKind
from kindling.cli.ports import free_ports
from kindling.cli.readiness import cluster_ready, until
from kindling.platform.clock import SystemClock

T = TypeVar("T")
START_SECONDS = 90.0
CALL_SECONDS = 60.0


def cluster_options(data_dir: Path, **changes: Any) -> ClusterOptions:
    """Return options for a small cluster with the fake engine on fresh ports; ``changes`` go over them.

    It takes no huge pages: what a storage manager has reserved that a test kills, and whose directory goes, stays.
    """
    http_port, grpc_port = free_ports(2)
    extra_env = (*changes.pop("extra_env", ()), ("KINDLING_STORAGE_RESERVE_HUGE_PAGES", "false"))
    small: dict[str, Any] = {
        "extra_env": extra_env,
        "data_dir": data_dir,
        "dram_pool_bytes": 64 * 2**20,
        "http_port": http_port,
        "grpc_port": grpc_port,
        "engine": EngineKind.FAKE,
        "ready_seconds": START_SECONDS,
    }
    return ClusterOptions(**(small | changes))


class RunningCluster:
    """A cluster that runs on another thread."""

    def __init__(self, cluster: LocalCluster, loop: asyncio.AbstractEventLoop, notices: list[str]) -> None:
        self.cluster = cluster
        self.notices = notices
        self.loop = loop

    @property
    def http_url(self) -> str:
        """Where the gateway serves HTTP."""
        return self.cluster.http_url

    @property
    def grpc_address(self) -> str:
        """Where the gateway serves gRPC, `host:port`."""
        return self.cluster.grpc_address

    @property
    def names(self) -> list[str]:
        """The children: `etcd`, `scheduler-0`, `node-0/storage`, `node-0/worker-0`, …, `gateway`."""
        return self.cluster.names

    def pid(self, name: str) -> int:
        """Return the id of a child's present process."""
        return self.cluster.child(name).pid

    def kill(self, name: str) -> int:
        """SIGKILL a child, wait until it is dead and return the id it had. The supervisor, if any, restarts it."""
        child = self.cluster.child(name)

        async def kill_and_wait() -> int:
            process = child.process
            process.kill()
            await process.wait()
            return process.pid

        return self._call(kill_and_wait())

    def start(self, name: str) -> None:
        """Start a child anew that was killed in a cluster without supervision."""
        self._call(self.cluster.child(name).start())

    def wait_restarted(self, name: str, old_pid: int) -> None:
        """Return once the supervisor has started a child again that was killed as ``old_pid``."""
        child = self.cluster.child(name)

        async def another() -> bool:
            return child.pid != old_pid

        self._call(until(another, SystemClock()))

    def wait_ready(self) -> None:
        """Return once the status shows a leader, every node and every worker."""
        self._call(cluster_ready(self.cluster.options, SystemClock()))

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(CALL_SECONDS)


@contextmanager
def running_cluster(options: ClusterOptions) -> Iterator[RunningCluster]:
    """Run a cluster for the length of the block; what its start raises comes out here."""
    started: concurrent.futures.Future[tuple[RunningCluster, asyncio.Event]] = concurrent.futures.Future()
    thread = threading.Thread(target=lambda: asyncio.run(_supervise(options, started)), name="cluster")
    thread.start()
    try:
        running, ended = started.result()
        try:
            yield running
        finally:
            running.loop.call_soon_threadsafe(ended.set)
    finally:
        thread.join()


async def _supervise(
    options: ClusterOptions, started: "concurrent.futures.Future[tuple[RunningCluster, asyncio.Event]]"
) -> None:
    ended = asyncio.Event()
    notices: list[str] = []
    try:
        async with local_cluster(options, notify=notices.append) as cluster:
            started.set_result((RunningCluster(cluster, asyncio.get_running_loop(), notices), ended))
            await ended.wait()
    except BaseException as error:
        if started.done():
            raise
        started.set_exception(error)

"""A whole cluster on one machine: etcd and every service as child processes of this one."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import TypeVar

from kindling.cli.child import Child, Role
from kindling.cli.layout import Layout
from kindling.cli.options import ClusterOptions
from kindling.cli.ports import HOST, require_different, require_free
from kindling.cli.readiness import cluster_ready, etcd_ready, forget_predecessors
from kindling.cli.state_file import ClusterState, locked, published_state
from kindling.cli.topology import Topology
from kindling.platform.clock import Clock, SystemClock
from kindling.platform.error_groups import single_error
from kindling.platform.errors import DeadlineExceededError

T = TypeVar("T")
Notify = Callable[[str], None]


class LocalCluster:
    """The children of a running cluster. Made by :func:`local_cluster`, which starts and stops them."""

    def __init__(self, options: ClusterOptions, topology: Topology, clock: Clock, notify: Notify) -> None:
        self.options = options
        self._topology = topology
        self._clock = clock
        self._notify = notify
        self._children = {child.name: child for child in topology.children()}

    @property
    def grpc_address(self) -> str:
        """Where the gateway serves gRPC, `host:port`."""
        return f"{HOST}:{self.options.grpc_port}"

    @property
    def http_url(self) -> str:
        """Where the gateway serves HTTP."""
        return f"http://{HOST}:{self.options.http_port}"

    @property
    def names(self) -> list[str]:
        """The children's names: `etcd`, `gateway`, `scheduler-0`, `node-0/storage`, `node-0/worker-0`, …"""
        return list(self._children)

    def child(self, name: str) -> Child:
        """Return a child by its name."""
        return self._children[name]

    async def start(self) -> None:
        """Start everything and return when all of it takes part; CHILD_DIED or NOT_READY otherwise."""
        etcd = self.child("etcd")
        await etcd.start()
        await self._bounded([etcd], etcd_ready(self._topology.etcd_endpoint, self._clock))
        await forget_predecessors(self._topology.etcd_endpoint)
        for child in self._children.values():
            if child is not etcd:
                await child.start()
        await self._bounded(list(self._children.values()), cluster_ready(self.options, self._clock))

    async def stop(self) -> None:
        """Stop everything, each kind of service after those that call it, in bounded time."""
        for role in Role:
            async with asyncio.TaskGroup() as stopping:
                for child in self._children.values():
                    if child.role is role:
                        stopping.create_task(self._stop(child))

    @asynccontextmanager
    async def supervised(self) -> AsyncIterator[None]:
        """Restart children that die, until the end of the block."""
        async with asyncio.TaskGroup() as supervision:
            children = self._children.values() if self.options.supervise else ()
            tasks = [supervision.create_task(child.supervise(self._clock, self._notify)) for child in children]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()

    async def _stop(self, child: Child) -> None:
        if not await child.stop(self.options.grace_seconds):
            self._notify(f"{child.name} did not stop within {self.options.grace_seconds:g} s and was killed")

    async def _bounded(self, children: Sequence[Child], work: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self.options.ready_seconds):
                return await _while_alive(children, work)
        except TimeoutError:
            raise DeadlineExceededError(
                f"the cluster was not ready within {self.options.ready_seconds:g} s; "
                f"see the logs in {self._topology.layout.data_dir / 'logs'}",
                reason="NOT_READY",
            ) from None


@asynccontextmanager
async def local_cluster(
    options: ClusterOptions, *, clock: Clock | None = None, notify: Notify = lambda _: None
) -> AsyncIterator[LocalCluster]:
    """Run a cluster for the length of the block, which begins when every part of it is ready.

    Nothing is started if the data directory is in use (DATA_DIR_IN_USE) or a port is taken (PORT_IN_USE), and nothing
    runs after the block, however it ends. ``notify`` gets a line for each thing that a user should know.
    """
    layout = Layout.create(options.data_dir)
    try:
        with locked(layout.data_dir):
            require_free(options.http_port, "--http-port")
            require_free(options.grpc_port, "--grpc-port")
            require_different(options.http_port, options.grpc_port)
            cluster = LocalCluster(options, Topology(options, layout), clock or SystemClock(), notify)
            with (
                published_state(layout.data_dir, ClusterState.of_this_process(options.http_port, options.grpc_port)),
                unwrapped(),
            ):
                try:
                    await cluster.start()
                    async with cluster.supervised():
                        yield cluster
                finally:
                    await cluster.stop()
    finally:
        layout.close()


@contextmanager
def unwrapped() -> Iterator[None]:
    """Raise the one error inside a task group's exception group."""
    try:
        yield
    except BaseExceptionGroup as group:
        raise single_error(group) from None


async def _while_alive(children: Sequence[Child], work: Awaitable[T]) -> T:
    """Return what ``work`` returns; CHILD_DIED as soon as one of the children ends first."""
    with unwrapped():
        async with asyncio.TaskGroup() as group:
            watchers = [group.create_task(child.fail_when_gone()) for child in children]
            result = await work
            for watcher in watchers:
                watcher.cancel()
    return result

"""Which processes a local cluster consists of, and how each is told its part: by environment variables alone."""

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from kindling.cli.child import Child, Role
from kindling.cli.layout import Layout
from kindling.cli.options import ClusterOptions
from kindling.cli.ports import HOST, free_ports
from kindling.platform.etcd.binary import find_etcd_binary

_SOURCE_ROOT = str(Path(__file__).parents[2])

# What `kindling trace` shows, without a collector.
_TRACED = {"KINDLING_TRACE_RING_SPANS": "2048"}


class Topology:
    """Names, addresses and environments of the processes; ports are chosen once, so that restarts keep them."""

    def __init__(self, options: ClusterOptions, layout: Layout) -> None:
        self.layout = layout
        self._options = options
        ports = iter(free_ports(2 + options.schedulers + options.nodes))
        self.etcd_endpoint = f"{HOST}:{next(ports)}"
        self._etcd_peer = f"{HOST}:{next(ports)}"
        self._schedulers = [f"{HOST}:{next(ports)}" for _ in range(options.schedulers)]
        self._storages = {node: f"{HOST}:{next(ports)}" for node in options.node_ids}
        self._sockets = {node: layout.socket(node) for node in options.node_ids}

    def children(self) -> Iterator[Child]:
        """Yield the processes in the order in which they start."""
        yield self._etcd()
        for index, address in enumerate(self._schedulers):
            yield self._scheduler(f"scheduler-{index}", address)
        for node in self._options.node_ids:
            yield self._storage(node)
        for worker in self._options.worker_ids:
            yield self._worker(worker)
        yield self._gateway()

    def _etcd(self) -> Child:
        argv = [
            str(find_etcd_binary()),
            f"--data-dir={self.layout.etcd_dir}",
            f"--listen-client-urls=http://{self.etcd_endpoint}",
            f"--advertise-client-urls=http://{self.etcd_endpoint}",
            f"--listen-peer-urls=http://{self._etcd_peer}",
            f"--initial-advertise-peer-urls=http://{self._etcd_peer}",
            f"--initial-cluster=default=http://{self._etcd_peer}",
            "--log-level=warn",
        ]
        # etcd would take ETCD_* variables for options of ours.
        env = {key: value for key, value in os.environ.items() if not key.startswith("ETCD_")}
        return Child("etcd", Role.ETCD, argv, env, self.layout.fresh_log("etcd"))

    def _scheduler(self, name: str, address: str) -> Child:
        return self._service(name, Role.SCHEDULER, {"LISTEN_ADDRESS": address, "SCHEDULER_ID": name})

    def _storage(self, node: str) -> Child:
        env = {
            "LISTEN_ADDRESS": self._storages[node],
            "NODE_ID": node,
            "REMOTE_URI": self.layout.remote_dir.as_uri(),
            "CACHE_DIR": str(self.layout.ssd_dir(node)),
            "POOL_BYTES": str(self._options.pool_bytes),
            "SOCKET_PATH": str(self._sockets[node]),
            "RESERVE_HUGE_PAGES": os.environ.get("KINDLING_STORAGE_RESERVE_HUGE_PAGES", str(os.geteuid() == 0)),
        }
        return self._service(f"{node}/storage", Role.STORAGE, env)

    def _worker(self, worker: str) -> Child:
        node, _, name = worker.partition("/")
        env = {
            "NODE_ID": node,
            "NAME": name,
            "STORAGE_ADDRESS": self._storages[node],
            "ENGINE": self._options.engine.value,
            "THREADS": str(self._options.threads_per_worker),
            "DEVICE": "cpu",
        }
        return self._service(worker, Role.WORKER, env)

    def _gateway(self) -> Child:
        env = {
            "LISTEN_ADDRESS": f"{HOST}:{self._options.grpc_port}",
            "HTTP_HOST": HOST,
            "HTTP_PORT": str(self._options.http_port),
            "SCHEDULERS": ",".join(self._schedulers),
        }
        return self._service("gateway", Role.GATEWAY, env)

    def _service(self, name: str, role: Role, settings: Mapping[str, str]) -> Child:
        shared = {
            "ETCD_ENDPOINTS": self.etcd_endpoint,
            "LOG_LEVEL": self._options.log_level,
            "GRACE_SECONDS": str(self._options.grace_seconds / 2),
        }
        prefix = f"KINDLING_{role.name}_"
        ours = {prefix + key: value for key, value in (shared | dict(settings)).items()}
        env = _TRACED | os.environ | {"PYTHONPATH": _python_path()} | ours | dict(self._options.extra_env)
        return Child(name, role, [sys.executable, "-m", f"kindling.{role.value}"], env, self.layout.fresh_log(name))


def _python_path() -> str:
    """Children import the code that we run, installed or not."""
    return os.pathsep.join(filter(None, [_SOURCE_ROOT, os.environ.get("PYTHONPATH", "")]))

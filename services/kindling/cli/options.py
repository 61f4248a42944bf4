"""What a local cluster is made of."""

import enum
import os
from dataclasses import dataclass
from pathlib import Path

import psutil

DEFAULT_DATA_DIR = Path("~/.local/share/kindling")
DEFAULT_HTTP_PORT = 8080
DEFAULT_GRPC_PORT = 8081
_LARGEST_DEFAULT_POOL_BYTES = 4 * 2**30
_SMALLEST_POOL_BYTES = 256 * 2**20
_POOL_STEP_BYTES = 16 * 2**20


class EngineKind(enum.StrEnum):
    """What computes tokens."""

    TRANSFORMERS = "transformers"
    FAKE = "fake"


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """Size and place of a local cluster. ``grace_seconds`` bounds how long each kind of service may take to stop."""

    data_dir: Path = DEFAULT_DATA_DIR
    nodes: int = 1
    workers_per_node: int = 1
    schedulers: int = 1
    dram_pool_bytes: int = 0
    http_port: int = DEFAULT_HTTP_PORT
    grpc_port: int = DEFAULT_GRPC_PORT
    engine: EngineKind = EngineKind.TRANSFORMERS
    log_level: str = "INFO"
    grace_seconds: float = 10.0
    ready_seconds: float = 120.0
    supervise: bool = True
    extra_env: tuple[tuple[str, str], ...] = ()

    @property
    def node_ids(self) -> list[str]:
        """The nodes' ids."""
        return [f"node-{index}" for index in range(self.nodes)]

    @property
    def worker_ids(self) -> list[str]:
        """The workers' ids, each `node/worker`."""
        return [f"{node}/worker-{index}" for node in self.node_ids for index in range(self.workers_per_node)]

    @property
    def threads_per_worker(self) -> int:
        """Threads that a worker computes with, so that all workers together fit the machine's cores."""
        return max(1, len(os.sched_getaffinity(0)) // (self.nodes * self.workers_per_node))

    @property
    def pool_bytes(self) -> int:
        """Size of each node's DRAM pool: as asked for, else a share of the memory that is free now."""
        return self.dram_pool_bytes or default_pool_bytes(psutil.virtual_memory().available, self.nodes)


def default_pool_bytes(available_bytes: int, nodes: int) -> int:
    """Return a quarter of the free memory, shared by the nodes, at most 4 GiB each, in whole steps of 16 MiB."""
    share = min(available_bytes // 4 // nodes, _LARGEST_DEFAULT_POOL_BYTES)
    return max(share // _POOL_STEP_BYTES * _POOL_STEP_BYTES, _SMALLEST_POOL_BYTES)

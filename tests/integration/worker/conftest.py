"""A real etcd for this folder's tests, and a real storage manager for each."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from kindling.storage.app import StorageNode, running
from kindling.storage.settings import StorageSettings
from support.etcd_server import EtcdServer, running_etcd


@pytest.fixture(scope="module")
def etcd_server() -> Iterator[EtcdServer]:
    with running_etcd() as server:
        yield server


@pytest.fixture
def prefix() -> str:
    return f"/{uuid4().hex}/"


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[StorageNode]:
    """A node's storage manager with a pool of 4 KiB pages."""
    async with running(storage_settings(tmp_path)) as node:
        yield node


def storage_settings(directory: Path, **changes: object) -> StorageSettings:
    for name in ("remote", "cache"):
        (directory / name).mkdir(exist_ok=True)
    values: dict[str, object] = {
        "node_id": "node-a",
        "remote_uri": (directory / "remote").as_uri(),
        "cache_dir": directory / "cache",
        "pool_bytes": 96 * 2**20,
        "chunk_bytes": 2**20,
        "huge_pages": False,
        "grace_seconds": 0,
    }
    return StorageSettings(**{**values, **changes})

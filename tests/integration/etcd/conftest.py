from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest

from kindling.platform.etcd import EtcdClient
from support.etcd_server import EtcdServer, running_etcd


@pytest.fixture(scope="session")
def shared_etcd() -> Iterator[EtcdServer]:
    """One etcd for every test that leaves it running; each test keeps to its own prefix."""
    with running_etcd() as server:
        yield server


@pytest.fixture
def own_etcd() -> Iterator[EtcdServer]:
    """An etcd that the test may kill."""
    with running_etcd() as server:
        yield server


@pytest.fixture
async def client(shared_etcd: EtcdServer) -> AsyncIterator[EtcdClient]:
    async with EtcdClient([shared_etcd.endpoint]) as client:
        yield client


@pytest.fixture
def prefix() -> str:
    return f"/{uuid4().hex}/"

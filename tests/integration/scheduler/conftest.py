"""A real etcd for this folder's tests, and a cluster of fakes for each."""

from collections.abc import AsyncIterator, Iterator

import pytest

from support.etcd_server import EtcdServer, running_etcd
from support.scheduler_cluster import Cluster, cluster_under_test


@pytest.fixture(scope="module")
def etcd_server() -> Iterator[EtcdServer]:
    with running_etcd() as server:
        yield server


@pytest.fixture
async def cluster(etcd_server: EtcdServer, request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    """Where nobody dies, leases outlast a machine that stands still for seconds; other modules name their length."""
    lease_seconds = getattr(request.module, "LEASE_SECONDS", 10.0)
    async with cluster_under_test(etcd_server.endpoint, lease_seconds) as cluster:
        yield cluster

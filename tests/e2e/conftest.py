"""One cluster with the real engine for all end-to-end tests that leave it whole."""

from collections.abc import Iterator

import pytest

from kindling.cli.options import EngineKind
from support.cluster import RunningCluster, cluster_options, running_cluster


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    options = cluster_options(
        tmp_path_factory.mktemp("cluster"), workers_per_node=2, schedulers=1, engine=EngineKind.TRANSFORMERS
    )
    with running_cluster(options) as running:
        yield running

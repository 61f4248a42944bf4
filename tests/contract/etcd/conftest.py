from collections.abc import Callable, Iterator
from functools import partial

import pytest

from support.etcd_server import EtcdServer, running_etcd
from support.etcd_worlds import Check, check_real, check_simulated


@pytest.fixture(scope="module")
def real_etcd() -> Iterator[EtcdServer]:
    with running_etcd() as server:
        yield server


@pytest.fixture(params=["real", "simulated"])
def run(request: pytest.FixtureRequest) -> Callable[[Check], None]:
    """Run a check against one of the two."""
    if request.param == "simulated":
        return check_simulated
    server: EtcdServer = request.getfixturevalue("real_etcd")
    return partial(check_real, server.endpoint)

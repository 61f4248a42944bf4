"""The example in `clients/python`, with stubs made for it; the other languages' are in tests/clients."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support import api
from support.checkpoints import make_checkpoint
from support.client_examples import EXAMPLES, check_example, expected_answer
from support.cluster import RunningCluster

CONTEXT_LENGTH = 2048


@pytest.fixture
def names(cluster: RunningCluster) -> Iterator[list[str]]:
    """Names for the models here, which are gone afterwards."""
    names = ["expected", "hello-python"]
    yield names
    for name in names:
        api.delete(cluster.grpc_address, name)


def test_the_python_example_deploys_streams_cancels_and_shows_a_typed_error(
    cluster: RunningCluster, names: list[str], tmp_path: Path
) -> None:
    model = make_checkpoint(tmp_path / "model", layers=8, context_length=CONTEXT_LENGTH)
    expected = expected_answer(cluster.grpc_address, names[0], model)
    EXAMPLES["python"].build()
    check_example(EXAMPLES["python"], cluster, model, expected)

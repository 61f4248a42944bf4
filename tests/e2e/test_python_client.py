"""The example in `clients/python`, with stubs made for it; the other languages' are in tests/clients."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support import api
from support.checkpoints import make_checkpoint
from support.client_examples import EXAMPLES, check_transcript, expected_answer
from support.cluster import RunningCluster

CONTEXT_LENGTH = 2048


@pytest.fixture
def names(cluster: RunningCluster) -> Iterator[tuple[str, str]]:
    """Names for two models, which are gone afterwards."""
    yield "expected", "hello-python"
    for name in ("expected", "hello-python"):
        api.delete(cluster.grpc_address, name)


def test_the_python_example_deploys_streams_cancels_and_shows_a_typed_error(
    cluster: RunningCluster, names: tuple[str, str], tmp_path: Path
) -> None:
    reference, own = names
    model = make_checkpoint(tmp_path / "model", context_length=CONTEXT_LENGTH)
    expected = expected_answer(cluster.grpc_address, reference, model)
    EXAMPLES["python"].build()
    transcript = EXAMPLES["python"].run(cluster.grpc_address, model.as_uri(), own)
    check_transcript(transcript, expected, own)

"""Each example in `clients/`, built with its own toolchain and run against a cluster of real processes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from support import api
from support.client_examples import EXAMPLES, check_example, expected_answer
from support.cluster import RunningCluster

BUILD_SECONDS = 900


@pytest.fixture(scope="module")
def expected(cluster: RunningCluster, model_directory: Path) -> api.Answer:
    return expected_answer(cluster.grpc_address, "expected", model_directory)


@pytest.mark.timeout(BUILD_SECONDS)
@pytest.mark.parametrize("language", EXAMPLES)
def test_an_example_deploys_streams_cancels_and_shows_a_typed_error(
    language: str,
    cluster: RunningCluster,
    model_directory: Path,
    expected: api.Answer,
    record_property: Callable[[str, object], None],
) -> None:
    record_property("client", language)
    example = EXAMPLES[language]
    if example.missing:
        packages = " ".join(sorted(set(example.missing.values())))
        pytest.skip(f"no {', '.join(example.missing)}: run `make clients-tools`, or apt-get install {packages}")
    example.build()
    check_example(example, cluster, model_directory, expected)


def test_at_least_one_other_toolchain_is_here() -> None:
    lacking = {language: example.missing for language, example in EXAMPLES.items() if language != "python"}
    assert not all(lacking.values()), f"no client but Python's can be built, run `make clients-tools`: {lacking}"

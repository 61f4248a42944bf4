"""Real processes: two nodes with a worker each, both running one model, and a gateway that clients read through."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from kindling.cli.options import EngineKind
from kindling.v1 import inference_pb2, model_pb2
from support import api
from support.checkpoints import make_checkpoint
from support.cluster import RunningCluster, cluster_options, running_cluster
from support.migrations import Movable
from support.readers import Reader

MODEL = "mover"
TOKENS = 500
Sampling = inference_pb2.SamplingParams
Read = Callable[..., Reader]
StartCluster = Callable[..., AbstractContextManager[RunningCluster]]


@pytest.fixture(scope="session")
def start_cluster(tmp_path_factory: pytest.TempPathFactory) -> StartCluster:
    @contextmanager
    def start(*, dtype: str = "float32", **settings: str) -> Iterator[RunningCluster]:
        """Run a cluster with the model in ``dtype``; ``settings`` are its workers'."""
        root = tmp_path_factory.mktemp("faults")
        env = [(f"KINDLING_WORKER_{name.upper()}", value) for name, value in settings.items()]
        options = cluster_options(root / "cluster", nodes=2, engine=EngineKind.TRANSFORMERS, extra_env=env)
        with running_cluster(options) as running:
            # Large enough that a token takes milliseconds, so that faults come in the middle of something.
            source = make_checkpoint(root / "model", hidden_size=256, layers=6, context_length=8192, dtype=dtype)
            served = model_pb2.ModelSettings(min_instances=2, concurrency_target=64)
            api.deploy(running.grpc_address, MODEL, source, served)
            yield running

    return start


@pytest.fixture(scope="package")
def cluster(start_cluster: StartCluster) -> Iterator[RunningCluster]:
    with start_cluster() as running:
        yield running


@pytest.fixture
def movable(cluster: RunningCluster) -> Movable:
    movable = Movable(cluster, MODEL)
    movable.wait_whole()
    return movable


@pytest.fixture(params=["greedy", "seeded"])
def sampling(request: pytest.FixtureRequest) -> Sampling:
    temperature = 0.0 if request.param == "greedy" else 0.9
    return Sampling(temperature=temperature, seed=7, max_tokens=TOKENS, ignore_eos=True)


@pytest.fixture(scope="package")
def _known() -> dict[bytes, list[int]]:
    return {}


@pytest.fixture
def undisturbed(
    cluster: RunningCluster, movable: Movable, _known: dict[bytes, list[int]]
) -> Callable[[list[int], Sampling], list[int]]:
    """What the answer to a prompt is when nothing happens."""

    def answer(prompt: list[int], sampling: Sampling) -> list[int]:
        key = bytes(prompt) + sampling.SerializeToString(deterministic=True)
        if key not in _known:
            _known[key] = Reader(cluster.grpc_address, MODEL, prompt, sampling).whole()
        return _known[key]

    return answer


@pytest.fixture
def read(cluster: RunningCluster) -> Iterator[Read]:
    """Begin to read an answer."""
    readers: list[Reader] = []

    def begin(prompt: list[int], sampling: Sampling) -> Reader:
        readers.append(Reader(cluster.grpc_address, MODEL, prompt, sampling))
        return readers[-1]

    yield begin
    for reader in readers:
        if reader.is_alive():
            reader.leave()

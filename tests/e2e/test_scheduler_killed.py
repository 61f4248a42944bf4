"""SIGKILL of the scheduler in the middle of a stream: the stream stays whole and a new scheduler takes over."""

from pathlib import Path

from kindling.cli.options import EngineKind
from kindling.v1 import cluster_pb2, inference_pb2
from support import api
from support.checkpoints import make_checkpoint
from support.cluster import cluster_options, running_cluster

PROMPT = list(range(20, 40))
MAX_TOKENS = 400
TOKENS_BEFORE_THE_KILL = 20


def test_a_stream_outlives_the_scheduler(tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "model")
    options = cluster_options(tmp_path / "data", engine=EngineKind.TRANSFORMERS)
    sampling = inference_pb2.SamplingParams(temperature=0, max_tokens=MAX_TOKENS, ignore_eos=True)
    with running_cluster(options) as cluster:
        address = cluster.grpc_address
        api.deploy(address, "steady", source)
        undisturbed = api.answer_of(api.stream(address, "steady", PROMPT, sampling))
        before = api.status(address)

        events = api.stream(address, "steady", PROMPT, sampling)
        head = _tokens_until(events, TOKENS_BEFORE_THE_KILL)
        killed = cluster.kill("scheduler-0")
        rest = api.answer_of(events)
        assert head + rest.token_ids == undisturbed.token_ids
        assert len(undisturbed.token_ids) == MAX_TOKENS

        cluster.wait_ready()
        after = api.status(address)
        assert cluster.pid("scheduler-0") != killed
        assert _facts(after) == _facts(before)
        assert api.answer_of(api.stream(address, "steady", PROMPT, sampling)).token_ids == undisturbed.token_ids
        assert _instances(api.status(address)) == _instances(before), "the running instance was kept, none was added"


def _tokens_until(events, count: int) -> list[int]:
    tokens: list[int] = []
    for event in events:
        tokens += event.delta.token_ids
        if len(tokens) >= count:
            return tokens
    raise AssertionError(f"the stream ended after {len(tokens)} tokens")


def _instances(status: cluster_pb2.GetClusterStatusResponse) -> list[tuple[str, str, str, int]]:
    return [(one.instance_id, one.model, one.worker_id, one.state) for one in status.instances]


def _facts(status: cluster_pb2.GetClusterStatusResponse):
    """What must be the same before and after."""
    nodes = [(node.node_id, [worker.worker_id for worker in node.workers]) for node in status.nodes]
    models = [(model.name, model.checkpoint.digest) for model in status.models]
    return nodes, models, _instances(status)

"""Two instances of a model, each half empty, while another waits for a device: through every service as a process."""

from collections.abc import Generator
from pathlib import Path

from kindling.v1 import cluster_pb2, generation_pb2, inference_pb2, model_pb2
from support import api
from support.checkpoints import make_checkpoint
from support.cluster import cluster_options, running_cluster

PROMPT = list(range(20, 40))
TOKENS = 1000  # at a hundredth of a second each
Events = Generator[generation_pb2.CompleteResponse]


def test_one_takes_the_others_generation_and_the_waiting_model_its_device(tmp_path: Path) -> None:
    pace = (("KINDLING_WORKER_FAKE_STEP_SECONDS", "0.01"),)
    source = make_checkpoint(tmp_path / "model", context_length=2048)
    with running_cluster(cluster_options(tmp_path / "data", nodes=2, extra_env=pace)) as cluster:
        address = cluster.grpc_address
        for name in ("spread", "waiting"):
            api.deploy(address, name, source, model_pb2.ModelSettings(concurrency_target=2))
        other, *both = [ask(address, "spread") for _ in range(3)]
        _, *heads = [begin(events) for events in (other, *both)]
        assert running(api.status(address)) == [("spread", 1), ("spread", 2)]
        other.close()
        assert len(begin(ask(address, "waiting"))) > 0, "no device was free for it"
        assert running(api.status(address))[0] == ("spread", 2)

        moved, stayed = (head + api.answer_of(events).token_ids for head, events in zip(heads, both, strict=True))
        assert moved == stayed
        assert len(moved) == TOKENS


def ask(address: str, model: str) -> Events:
    """The same answer each time; asked for once it is read, cancelled once it is closed."""
    sampling = inference_pb2.SamplingParams(temperature=0, max_tokens=TOKENS, ignore_eos=True)
    return api.stream(address, model, PROMPT, sampling)


def begin(events: Events) -> list[int]:
    """The first tokens of an answer, once they are there."""
    return list(next(event.delta.token_ids for event in events if event.delta.token_ids))


def running(status: cluster_pb2.GetClusterStatusResponse) -> list[tuple[str, int]]:
    """The models of the instances that are there, with their generations."""
    return sorted((one.model, one.generations) for one in status.instances)

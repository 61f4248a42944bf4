"""The demo's measurement checks what the cluster says of each start, and does not take its own word for it."""

import io

import pytest
from rich.console import Console

from kindling.cli import first_tokens
from kindling.cli.first_tokens import FirstTokens, table
from kindling.cli.streaming import Answer
from kindling.platform.clock import SystemClock
from kindling.platform.errors import InternalError
from kindling.v1 import checkpoint_pb2, cluster_pb2, model_pb2

MODEL = model_pb2.Model(name="m", checkpoint=checkpoint_pb2.Checkpoint(digest="blake3:m", total_bytes=10**9))


class Patient(SystemClock):
    async def sleep(self, seconds):
        pass


class FakeCluster:
    """Starts an instance when asked something, from the tier it was evicted to; stops it a status later."""

    def __init__(self, lies_about=None):
        self.tier = None
        self.instance = None
        self.stopping = False
        self.starts = 0
        self.asked_of_parked = 0
        self.lies_about = lies_about

    async def evict(self, name, tier):
        self.tier, self.stopping = tier, True
        return model_pb2.EvictModelResponse()

    async def status(self):
        instances = [self.instance] if self.instance else []
        if self.stopping:
            self.instance, self.stopping = None, False
        return cluster_pb2.GetClusterStatusResponse(instances=instances, nodes=[self.node()])

    def node(self):
        """Its worker tells only after a while what it has parked."""
        worker = cluster_pb2.WorkerSummary(worker_id="n/w")
        if self.tier == checkpoint_pb2.TIER_GPU and self.instance is None:
            self.asked_of_parked += 1
            if self.asked_of_parked > 2:
                worker.parked.add(digest="blake3:m", bytes=10**9)
        return cluster_pb2.NodeStatus(node_id="n", workers=[worker])

    def ask(self, url, question, on_text):
        if self.instance is None:
            self.starts += 1
            tier = checkpoint_pb2.TIER_SSD if self.tier == self.lies_about else self.tier
            self.instance = cluster_pb2.InstanceStatus(
                instance_id=f"m-{self.starts}", model="m", startup_seconds=0.5, estimated_seconds=0.4, **{"from": tier}
            )
        return Answer("text", 0.1)


async def measure(cluster, monkeypatch):
    monkeypatch.setattr(first_tokens, "ask", cluster.ask)
    return await FirstTokens(cluster, "http://unused", MODEL, chat=True, clock=Patient()).measure()


async def test_every_tier_is_measured_once_and_the_last_start_again_warm(monkeypatch):
    cluster = FakeCluster()
    measured = await measure(cluster, monkeypatch)
    assert [one.start for one in measured] == ["cold, REMOTE", "cold, SSD", "cold, DRAM", "parked", "warm"]
    assert cluster.starts == 4
    assert cluster.asked_of_parked == 3
    assert [one.load_rate for one in measured] == [2e9, 2e9, 2e9, 0, 0]


async def test_a_start_from_another_tier_is_not_passed_off(monkeypatch):
    with pytest.raises(InternalError, match="was to come from DRAM, and the cluster says SSD") as caught:
        await measure(FakeCluster(lies_about=checkpoint_pb2.TIER_DRAM), monkeypatch)
    assert caught.value.reason == "WRONG_TIER"


async def test_the_table_shows_every_start(monkeypatch):
    text = io.StringIO()
    Console(file=text, width=120).print(table(await measure(FakeCluster(), monkeypatch)))
    words = text.getvalue().replace("│", "").split()
    assert " ".join(words).count("100 ms 500 ms 400 ms 2.00 GB/s") == 3
    assert "parked 100 ms 500 ms 400 ms –" in " ".join(words)
    assert "warm 100 ms – – –" in " ".join(words)
    assert "first token, by where the 954 MiB of weights came from" in text.getvalue()

import io

from rich.console import Console

from kindling.cli.chat import describe_waiting
from kindling.cli.status import render
from kindling.v1 import checkpoint_pb2, cluster_pb2, model_pb2, scheduler_pb2

DIGEST = "blake3:0123456789abcdef"


def printed(seen):
    text = io.StringIO()
    Console(file=text, width=200).print(render(seen))
    return " ".join(text.getvalue().split())


def test_an_empty_cluster_says_that_nobody_leads():
    text = printed(cluster_pb2.GetClusterStatusResponse())
    assert "no scheduler leads" in text
    assert "no models; deploy one with kindling deploy" in text


def test_nodes_tiers_workers_and_instances_are_shown():
    resident = cluster_pb2.ResidentCheckpoint(digest=DIGEST, chunks=3, bytes=48 * 2**20)
    dram = cluster_pb2.TierStatus(
        tier=checkpoint_pb2.TIER_DRAM,
        capacity_bytes=2**30,
        used_bytes=48 * 2**20,
        bandwidth_bytes_per_second=2.5e9,
        backing="hugetlb",
        checkpoints=[resident],
    )
    worker = cluster_pb2.WorkerSummary(worker_id="node-0/worker-0", device="cpu", slots=1, address="127.0.0.1:5000")
    instance = cluster_pb2.InstanceStatus(
        instance_id="m-abc",
        model="m",
        worker_id="node-0/worker-0",
        state=cluster_pb2.INSTANCE_STATE_READY,
        generations=2,
        estimated_seconds=1.5,
        startup_seconds=1.2,
        **{"from": checkpoint_pb2.TIER_SSD},
    )
    checkpoint = checkpoint_pb2.Checkpoint(digest=DIGEST, total_bytes=48 * 2**20, chunk_count=3)
    text = printed(
        cluster_pb2.GetClusterStatusResponse(
            leader_id="scheduler-0",
            leader_address="127.0.0.1:9000",
            nodes=[cluster_pb2.NodeStatus(node_id="node-0", tiers=[dram], workers=[worker])],
            instances=[instance],
            models=[model_pb2.Model(name="m", checkpoint=checkpoint)],
        )
    )
    assert "scheduler-0 leads since" in text
    assert "node-0 DRAM 48.0 MiB 1.0 GiB – 2.50 GB/s hugetlb 01234567 (3 chunks, 48.0 MiB)" in text
    assert "node-0/worker-0 cpu 1 127.0.0.1:5000 m" in text
    assert "m-abc node-0/worker-0 ready 2 – SSD 1.5 s 1.2 s" in text
    assert "m 01234567 48.0 MiB 3 1" in text


def test_markup_in_names_is_printed_as_it_is():
    worker = cluster_pb2.WorkerSummary(worker_id="[red]w")
    node = cluster_pb2.NodeStatus(node_id="[red]n", workers=[worker])
    text = printed(cluster_pb2.GetClusterStatusResponse(nodes=[node]))
    assert "[red]n" in text
    assert "[red]w" in text


def test_what_a_request_waits_for_is_said():
    loading = scheduler_pb2.Starting(
        node_id="node-1",
        progress=checkpoint_pb2.LoadProgress(loaded_bytes=37, total_bytes=100, **{"from": checkpoint_pb2.TIER_REMOTE}),
    )
    events = [
        scheduler_pb2.AcquireResponse(queued=scheduler_pb2.Queued(ahead=2)),
        scheduler_pb2.AcquireResponse(starting=loading),
        scheduler_pb2.AcquireResponse(starting=scheduler_pb2.Starting(node_id="node-1")),
        scheduler_pb2.AcquireResponse(),
    ]
    assert [describe_waiting(event) for event in events] == [
        "queued, 2 ahead",
        "loading 37 % from REMOTE on node-1",
        "starting on node-1",
        "waiting for the cluster",
    ]


def test_a_drained_node_is_marked():
    nodes = [cluster_pb2.NodeStatus(node_id="node-0", drained=True), cluster_pb2.NodeStatus(node_id="node-1")]
    text = printed(cluster_pb2.GetClusterStatusResponse(nodes=nodes))
    assert "node-0 (drained)" in text
    assert text.count("drained") == 1

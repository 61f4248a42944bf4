"""A model takes the place where it starts soonest from a running one, which goes on elsewhere: over gRPC and etcd."""

from kindling.v1 import cluster_pb2
from support.scheduler_cluster import Cluster

GB = 10**9


async def test_running_generations_make_room_where_another_model_starts_sooner(cluster: Cluster) -> None:
    for node_id in ("near", "far"):
        await cluster.add_node(node_id)
    await cluster.add_model("small", digest="blake3:small", total_bytes=1000)
    await cluster.add_model("large", digest="blake3:large", total_bytes=20 * GB)
    await cluster.add_residency("near", "blake3:large", dram=20 * GB, ssd=20 * GB)
    source = await cluster.add_worker("near/w1")
    client = await cluster.start_scheduler()
    first = await client.granted("small", "g1")
    source.set_generations("g1")
    target = await cluster.add_worker("far/w1")
    await client.until_status(lambda status: any(node.node_id == "far" and node.workers for node in status.nodes))
    await client.until_status(lambda status: any(one.generations for one in status.instances))

    granted = await client.granted("large")

    assert granted.worker_address == source.address
    assert source.stop_calls == [first.instance_id]
    (moved_to,) = target.instances
    assert target.generations(moved_to) == {"g1"}, "it goes on where the small model starts as fast"
    status = await client.status()
    running = {one.model: (one.worker_id, one.state) for one in status.instances}
    ready = cluster_pb2.INSTANCE_STATE_READY
    assert running == {"small": ("far/w1", ready), "large": ("near/w1", ready)}

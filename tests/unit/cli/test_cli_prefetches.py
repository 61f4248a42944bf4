import io

from rich.console import Console

from kindling.cli.prefetches import render_prefetches
from kindling.v1 import cluster_pb2


def printed(*nodes):
    text = io.StringIO()
    Console(file=text, width=200).print(render_prefetches(cluster_pb2.GetClusterStatusResponse(nodes=nodes)))
    return " ".join(text.getvalue().split())


def test_nothing_prefetched_is_said():
    assert printed(cluster_pb2.NodeStatus(node_id="n1")).startswith("nothing was prefetched yet")


def test_each_tier_that_something_was_brought_to_has_its_hit_rate_and_what_was_in_vain():
    counts = cluster_pb2.PrefetchCounts(
        prefetched_bytes=8 << 20, hits=3, hit_bytes=6 << 20, misses=1, wasted_bytes=2 << 20
    )
    copied = cluster_pb2.PrefetchCounts(prefetched_bytes=1 << 20)
    text = printed(
        cluster_pb2.NodeStatus(node_id="n1", prefetch=counts),
        cluster_pb2.NodeStatus(node_id="[n2]", prefetch_to_ssd=copied),
    )
    assert "n1 DRAM 8.0 MiB 3 1 75% 6.0 MiB 2.0 MiB" in text
    assert "[n2] SSD 1.0 MiB 0 0 – 0 B 0 B" in text

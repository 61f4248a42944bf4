"""What the leader learned, over the wire."""

import math

from kindling.scheduler.domain.bandwidths import LearnedLink
from kindling.scheduler.domain.builds import LearnedBuild
from kindling.scheduler.domain.handovers import LearnedHandover
from kindling.scheduler.domain.track_record import BUCKET_BOUNDS, EstimateKind, TrackRecord
from kindling.scheduler.domain.values import Tier
from kindling.scheduler.estimates import Estimates
from kindling.scheduler.estimates_wire import estimates_to_wire
from kindling.v1 import checkpoint_pb2, cluster_pb2


def test_everything_learned_arrives() -> None:
    record = TrackRecord()
    record.note(EstimateKind.LOAD, "n", 1.25, 1.0, Tier.SSD)
    sent = estimates_to_wire(
        Estimates(
            qualities=tuple(record.qualities()),
            links=(LearnedLink("n", Tier.REMOTE, 1e9, 2e9, 3, latency_seconds=0.25),),
            builds=(LearnedBuild("d", "cpu", while_reading=True, seconds=0.5, starts=2),),
            handovers=(LearnedHandover("d", "cuda", 0.001, 0.25, 900.0, 4),),
        )
    )
    read = cluster_pb2.Estimates.FromString(sent.SerializeToString())
    everywhere, node = read.qualities
    assert (everywhere.node_id, node.node_id, node.kind) == ("", "n", cluster_pb2.ESTIMATE_KIND_LOAD)
    assert (getattr(node, "from"), node.count) == (checkpoint_pb2.TIER_SSD, 1)
    assert (node.median_error, node.p90_error) == (0.25, 0.25)
    assert (list(everywhere.errors), list(node.errors)) == ([0.25], [])
    assert [bucket.upper_bound for bucket in node.histogram] == list(BUCKET_BOUNDS)
    assert node.histogram[-1].upper_bound == math.inf
    assert [bucket.upper_bound for bucket in node.histogram if bucket.count] == [0.25]
    (link,), (init,), (migration,) = read.links, read.inits, read.migrations
    assert link == cluster_pb2.LinkEstimate(
        node_id="n",
        tier=checkpoint_pb2.TIER_REMOTE,
        measured_bytes_per_second=1e9,
        bytes_per_second=2e9,
        loads=3,
        latency_seconds=0.25,
    )
    assert init == cluster_pb2.InitEstimate(digest="d", device_kind="cpu", seconds=0.5, starts=2, while_reading=True)
    assert migration == cluster_pb2.MigrationEstimate(
        digest="d",
        device_kind="cuda",
        seconds_per_token=0.001,
        base_seconds=0.25,
        generation_tokens=900.0,
        migrations=4,
    )


def test_every_kind_has_a_name_on_the_wire() -> None:
    record = TrackRecord()
    for kind in EstimateKind:
        record.note(kind, "n", 1.0, 1.0)
    sent = estimates_to_wire(Estimates(tuple(record.qualities()), (), (), ()))
    names = {cluster_pb2.EstimateKind.Name(one.kind) for one in sent.qualities}
    assert names == {f"ESTIMATE_KIND_{kind.name}" for kind in EstimateKind}


def test_those_who_do_not_ask_are_answered_as_before() -> None:
    """Messages of an earlier release read the same."""
    assert not cluster_pb2.GetClusterStatusRequest.FromString(b"").include_estimates
    assert not cluster_pb2.GetClusterStatusResponse.FromString(b"").HasField("estimates")

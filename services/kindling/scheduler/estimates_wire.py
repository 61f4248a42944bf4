"""Between what the leader has learned and the messages of the wire."""

from kindling.scheduler.domain.bandwidths import LearnedLink
from kindling.scheduler.domain.builds import LearnedBuild
from kindling.scheduler.domain.handovers import LearnedHandover
from kindling.scheduler.domain.track_record import BUCKET_BOUNDS, EstimateKind, Quality
from kindling.scheduler.estimates import Estimates
from kindling.scheduler.wire import tier_to_wire
from kindling.v1 import cluster_pb2

_KIND_TO_WIRE = {
    EstimateKind.STARTUP: cluster_pb2.ESTIMATE_KIND_STARTUP,
    EstimateKind.LOAD: cluster_pb2.ESTIMATE_KIND_LOAD,
    EstimateKind.INIT: cluster_pb2.ESTIMATE_KIND_INIT,
    EstimateKind.MIGRATION: cluster_pb2.ESTIMATE_KIND_MIGRATION,
}


def estimates_to_wire(estimates: Estimates) -> cluster_pb2.Estimates:
    """Return the message for what was learned."""
    return cluster_pb2.Estimates(
        qualities=[_quality(one) for one in estimates.qualities],
        links=[_link(one) for one in estimates.links],
        inits=[_init(one) for one in estimates.builds],
        migrations=[_migration(one) for one in estimates.handovers],
    )


def _quality(one: Quality) -> cluster_pb2.EstimateQuality:
    buckets = zip(BUCKET_BOUNDS, one.histogram, strict=True)
    return cluster_pb2.EstimateQuality(
        kind=_KIND_TO_WIRE[one.kind],
        node_id=one.node_id,
        count=one.count,
        median_error=one.median_error,
        p90_error=one.p90_error,
        histogram=[cluster_pb2.ErrorBucket(upper_bound=bound, count=count) for bound, count in buckets],
        errors=one.errors,
        **{"from": tier_to_wire(one.source)},
    )


def _link(one: LearnedLink) -> cluster_pb2.LinkEstimate:
    return cluster_pb2.LinkEstimate(
        node_id=one.node_id,
        tier=tier_to_wire(one.tier),
        measured_bytes_per_second=one.measured_bytes_per_second,
        bytes_per_second=one.bytes_per_second,
        loads=one.loads,
        latency_seconds=one.latency_seconds,
    )


def _init(one: LearnedBuild) -> cluster_pb2.InitEstimate:
    return cluster_pb2.InitEstimate(
        digest=one.digest,
        device_kind=one.device_kind,
        seconds=one.seconds,
        starts=one.starts,
        while_reading=one.while_reading,
    )


def _migration(one: LearnedHandover) -> cluster_pb2.MigrationEstimate:
    return cluster_pb2.MigrationEstimate(
        digest=one.digest,
        device_kind=one.device_kind,
        seconds_per_token=one.seconds_per_token,
        base_seconds=one.base_seconds,
        generation_tokens=one.generation_tokens,
        migrations=one.migrations,
    )

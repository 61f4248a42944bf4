"""Domain values as messages of the wire. Imported by the servicer and by adapters only."""

from collections.abc import Iterable

from kindling.checkpoint.manifest import Manifest
from kindling.storage.domain.prefetch_tally import PrefetchTally
from kindling.storage.domain.prefetched import PrefetchOutcome
from kindling.storage.domain.tier import Tier, TierResidency, TierSnapshot, TierTraffic
from kindling.storage.domain.verdict import Verdict
from kindling.v1 import checkpoint_pb2, cluster_pb2, state_pb2, storage_pb2

OUTCOME_TO_WIRE = {
    PrefetchOutcome.DONE: storage_pb2.PREFETCH_OUTCOME_DONE,
    PrefetchOutcome.YIELDED: storage_pb2.PREFETCH_OUTCOME_YIELDED,
    PrefetchOutcome.NO_ROOM: storage_pb2.PREFETCH_OUTCOME_NO_ROOM,
    PrefetchOutcome.NO_COPY: storage_pb2.PREFETCH_OUTCOME_NO_COPY,
}


def tier_to_wire(tier: Tier) -> "checkpoint_pb2.Tier.ValueType":
    """Numbers are the same on both sides."""
    return checkpoint_pb2.Tier.ValueType(int(tier))


def checkpoint_to_wire(manifest: Manifest) -> checkpoint_pb2.Checkpoint:
    """What clients learn of a checkpoint."""
    return checkpoint_pb2.Checkpoint(
        digest=manifest.digest,
        total_bytes=manifest.total_bytes,
        chunk_bytes=manifest.chunk_bytes,
        chunk_count=manifest.chunk_count,
        architecture=manifest.architecture,
        dtype=manifest.torch_dtype,
        parameter_count=manifest.parameter_count,
        context_length=manifest.context_length or 0,
    )


def report_to_wire(traffic: Iterable[TierTraffic], load_seconds: float) -> checkpoint_pb2.LoadReport:
    """The storage manager's part of a load report."""
    report = checkpoint_pb2.LoadReport(load_seconds=load_seconds, total_seconds=load_seconds)
    for flow in traffic:
        message = report.traffic.add(bytes=flow.size_bytes, seconds=flow.seconds)
        setattr(message, "from", tier_to_wire(flow.tier))
    return report


def tier_to_status(snapshot: TierSnapshot, *, with_checkpoints: bool) -> cluster_pb2.TierStatus:
    """A tier, with or without the checkpoints in it."""
    status = cluster_pb2.TierStatus(
        tier=tier_to_wire(snapshot.tier),
        capacity_bytes=snapshot.capacity_bytes,
        used_bytes=snapshot.used_bytes,
        pinned_bytes=snapshot.pinned_bytes,
        bandwidth_bytes_per_second=snapshot.bytes_per_second,
        backing=snapshot.backing,
    )
    if with_checkpoints:
        for digest, held in snapshot.checkpoints:
            status.checkpoints.add(digest=digest, chunks=held.chunks, bytes=held.size_bytes, verified=held.verified)
    return status


def verdict_to_wire(node_id: str, verdict: Verdict) -> checkpoint_pb2.VerifyReport:
    """What a verification found on this node."""
    report = checkpoint_pb2.VerifyReport(node_id=node_id, digest=verdict.digest, quarantined=verdict.quarantined)
    for found in verdict.tiers:
        tier = report.tiers.add(tier=tier_to_wire(found.tier), checked_chunks=found.checked_chunks)
        for bad in found.bad_chunks:
            tier.bad_chunks.add(chunk=bad.chunk, problem=bad.problem, repaired=bad.repaired)
    return report


def tally_to_wire(tally: PrefetchTally) -> cluster_pb2.PrefetchCounts:
    """What became of what was prefetched."""
    return cluster_pb2.PrefetchCounts(
        prefetched_bytes=tally.prefetched_bytes,
        hits=tally.hits,
        hit_bytes=tally.hit_bytes,
        misses=tally.misses,
        wasted_bytes=tally.wasted_bytes,
    )


def residency_to_wire(node_id: str, digest: str, tiers: Iterable[TierResidency]) -> state_pb2.ResidencyRecord:
    """The record of a checkpoint's residency on this node."""
    record = state_pb2.ResidencyRecord(node_id=node_id, digest=digest)
    for held in tiers:
        record.tiers.add(tier=tier_to_wire(held.tier), chunks=held.chunks, bytes=held.size_bytes)
    return record


def node_to_wire(node_id: str, address: str, tiers: Iterable[TierSnapshot]) -> state_pb2.NodeRecord:
    """The node's own record."""
    statuses = [tier_to_status(tier, with_checkpoints=False) for tier in tiers]
    return state_pb2.NodeRecord(node_id=node_id, storage_address=address, tiers=statuses)

"""Verifications as messages of the wire."""

from kindling.scheduler.domain.verification import (
    BadChunk,
    ModelVerified,
    NodeVerified,
    TierVerification,
    VerifyProgress,
    VerifyReport,
)
from kindling.scheduler.wire import tier_from_wire, tier_to_wire
from kindling.v1 import checkpoint_pb2, model_pb2


def report_from_wire(message: checkpoint_pb2.VerifyReport) -> VerifyReport:
    """A node's report; tiers that are newer than we are are left out."""
    tiers = ((tier_from_wire(found.tier), found) for found in message.tiers)
    known = (
        TierVerification(
            tier,
            found.checked_chunks,
            tuple(BadChunk(bad.chunk, bad.problem, bad.repaired) for bad in found.bad_chunks),
        )
        for tier, found in tiers
        if tier
    )
    return VerifyReport(message.digest, tuple(known), message.quarantined)


def event_to_wire(event: VerifyProgress | NodeVerified | ModelVerified) -> model_pb2.VerifyModelResponse:
    """One event of a verification."""
    if isinstance(event, VerifyProgress):
        progress = checkpoint_pb2.VerifyProgress(done_bytes=event.done_bytes, total_bytes=event.total_bytes)
        on_node = model_pb2.NodeVerifyProgress(node_id=event.node_id, progress=progress)
        return model_pb2.VerifyModelResponse(progress=on_node)
    if isinstance(event, ModelVerified):
        verified = model_pb2.ModelVerified(checkpoint_digest=event.digest, intact=event.is_intact)
        return model_pb2.VerifyModelResponse(verified=verified)
    node = model_pb2.NodeVerified(node_id=event.node_id, problem=event.problem)
    if event.report is not None:
        node.report.CopyFrom(_report_to_wire(event.node_id, event.report))
    return model_pb2.VerifyModelResponse(node=node)


def _report_to_wire(node_id: str, report: VerifyReport) -> checkpoint_pb2.VerifyReport:
    message = checkpoint_pb2.VerifyReport(node_id=node_id, digest=report.digest, quarantined=report.quarantined)
    for found in report.tiers:
        tier = message.tiers.add(tier=tier_to_wire(found.tier), checked_chunks=found.checked_chunks)
        for bad in found.bad_chunks:
            tier.bad_chunks.add(chunk=bad.chunk, problem=bad.problem, repaired=bad.repaired)
    return message

"""Between the scheduler's values and the messages of the wire."""

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from kindling.scheduler.domain.quotas import Quota
from kindling.scheduler.domain.values import (
    Checkpoint,
    InstanceState,
    LoadProgress,
    LoadReport,
    MigrationStage,
    Model,
    ModelSettings,
    ParkedCheckpoint,
    ReportedInstance,
    Tier,
    TierTraffic,
    TierUse,
    WorkerReport,
)
from kindling.v1 import checkpoint_pb2, cluster_pb2, inference_pb2, model_pb2, tenant_pb2

STATE_TO_WIRE = {
    InstanceState.STARTING: cluster_pb2.INSTANCE_STATE_STARTING,
    InstanceState.READY: cluster_pb2.INSTANCE_STATE_READY,
    InstanceState.STOPPING: cluster_pb2.INSTANCE_STATE_STOPPING,
}
STAGE_TO_WIRE = {
    MigrationStage.STARTING: cluster_pb2.MIGRATION_STAGE_STARTING,
    MigrationStage.MOVING: cluster_pb2.MIGRATION_STAGE_MOVING,
    MigrationStage.STOPPING: cluster_pb2.MIGRATION_STAGE_STOPPING,
    MigrationStage.DONE: cluster_pb2.MIGRATION_STAGE_DONE,
}
_TIER_TO_WIRE = {
    Tier.GPU: checkpoint_pb2.TIER_GPU,
    Tier.DRAM: checkpoint_pb2.TIER_DRAM,
    Tier.SSD: checkpoint_pb2.TIER_SSD,
    Tier.REMOTE: checkpoint_pb2.TIER_REMOTE,
}
_TIERS: dict[int, Tier] = {tier.value: tier for tier in Tier}
STATE_FROM_WIRE = {wire: state for state, wire in STATE_TO_WIRE.items()}


def tier_from_wire(tier: int) -> Tier | None:
    """Return the tier; none if it is not said, or newer than we are."""
    return _TIERS.get(tier)


def tier_to_wire(tier: Tier | None) -> "checkpoint_pb2.Tier.ValueType":
    """Return the tier's number on the wire."""
    return _TIER_TO_WIRE[tier] if tier else checkpoint_pb2.TIER_UNSPECIFIED


def timestamp(seconds: float) -> Timestamp:
    """Return seconds since the epoch as a timestamp."""
    stamp = Timestamp()
    stamp.FromMicroseconds(round(seconds * 1e6))
    return stamp


def seconds_of(stamp: Timestamp) -> float:
    """Return a timestamp as seconds since the epoch."""
    return stamp.ToMicroseconds() / 1e6


def duration(seconds: float) -> Duration:
    """Return seconds as a duration."""
    length = Duration()
    length.FromMicroseconds(round(seconds * 1e6))
    return length


def duration_seconds(length: Duration) -> float:
    """Return a duration as seconds."""
    return length.seconds + length.nanos / 1e9


def checkpoint_from_wire(message: checkpoint_pb2.Checkpoint) -> Checkpoint:
    """Return the checkpoint that a message describes."""
    return Checkpoint(
        digest=message.digest,
        total_bytes=message.total_bytes,
        chunk_bytes=message.chunk_bytes,
        chunk_count=message.chunk_count,
        architecture=message.architecture,
        dtype=message.dtype,
        parameter_count=message.parameter_count,
        context_length=message.context_length,
    )


def checkpoint_to_wire(checkpoint: Checkpoint) -> checkpoint_pb2.Checkpoint:
    """Return the message that describes a checkpoint."""
    return checkpoint_pb2.Checkpoint(
        digest=checkpoint.digest,
        total_bytes=checkpoint.total_bytes,
        chunk_bytes=checkpoint.chunk_bytes,
        chunk_count=checkpoint.chunk_count,
        architecture=checkpoint.architecture,
        dtype=checkpoint.dtype,
        parameter_count=checkpoint.parameter_count,
        context_length=checkpoint.context_length,
    )


def settings_from_wire(message: model_pb2.ModelSettings, defaults: ModelSettings) -> ModelSettings:
    """Return a model's settings, what is absent taken from ``defaults``."""
    return ModelSettings(
        min_instances=message.min_instances,
        max_instances=message.max_instances,
        concurrency_target=message.concurrency_target or defaults.concurrency_target,
        keep_alive_seconds=duration_seconds(message.keep_alive)
        if message.HasField("keep_alive")
        else defaults.keep_alive_seconds,
        max_queued_requests=message.max_queued_requests or defaults.max_queued_requests,
        max_queue_wait_seconds=duration_seconds(message.max_queue_wait)
        if message.HasField("max_queue_wait")
        else defaults.max_queue_wait_seconds,
        devices=message.devices or defaults.devices,
    )


def settings_to_wire(settings: ModelSettings) -> model_pb2.ModelSettings:
    """Return the message for a model's settings, nothing left to defaults."""
    return model_pb2.ModelSettings(
        min_instances=settings.min_instances,
        max_instances=settings.max_instances,
        concurrency_target=settings.concurrency_target,
        keep_alive=duration(settings.keep_alive_seconds),
        max_queued_requests=settings.max_queued_requests,
        max_queue_wait=duration(settings.max_queue_wait_seconds),
        devices=settings.devices,
    )


def model_from_wire(message: model_pb2.Model) -> Model:
    """Return a model as it was recorded."""
    return Model(
        name=message.name,
        checkpoint=checkpoint_from_wire(message.checkpoint),
        settings=settings_from_wire(message.settings, ModelSettings()),
        source_uri=message.source_uri,
        create_time=seconds_of(message.create_time),
    )


def model_to_wire(model: Model) -> model_pb2.Model:
    """Return the message for a model."""
    return model_pb2.Model(
        name=model.name,
        checkpoint=checkpoint_to_wire(model.checkpoint),
        settings=settings_to_wire(model.settings),
        source_uri=model.source_uri,
        create_time=timestamp(model.create_time),
    )


def quota_from_wire(message: tenant_pb2.TenantQuota) -> Quota:
    """Return what a tenant may have."""
    return Quota(message.generations, message.waiting, message.devices, message.weight or 1)


def quota_to_wire(quota: Quota) -> tenant_pb2.TenantQuota:
    """Return the message for what a tenant may have."""
    return tenant_pb2.TenantQuota(
        generations=quota.generations, waiting=quota.waiting, devices=quota.devices, weight=quota.weight
    )


def tier_use_from_wire(message: cluster_pb2.TierStatus) -> TierUse | None:
    """Return a tier's figures; none for a tier that we do not know."""
    tier = tier_from_wire(message.tier)
    if tier is None:
        return None
    return TierUse(
        tier=tier,
        capacity_bytes=message.capacity_bytes,
        used_bytes=message.used_bytes,
        pinned_bytes=message.pinned_bytes,
        bandwidth_bytes_per_second=message.bandwidth_bytes_per_second,
        backing=message.backing,
    )


def report_from_wire(message: checkpoint_pb2.LoadReport) -> LoadReport:
    """Return what a start was made of."""
    parts = ((tier_from_wire(getattr(part, "from")), part) for part in message.traffic)
    return LoadReport(
        traffic=tuple(TierTraffic(tier, part.bytes, part.seconds) for tier, part in parts if tier),
        load_seconds=message.load_seconds,
        init_seconds=message.init_seconds,
        total_seconds=message.total_seconds,
        complete=message.complete,
    )


def report_to_wire(report: LoadReport) -> checkpoint_pb2.LoadReport:
    """Return the message for what a start was made of."""
    traffic = (
        checkpoint_pb2.TierTraffic(**{"from": tier_to_wire(part.source)}, bytes=part.bytes, seconds=part.seconds)
        for part in report.traffic
    )
    return checkpoint_pb2.LoadReport(
        traffic=list(traffic),
        load_seconds=report.load_seconds,
        init_seconds=report.init_seconds,
        total_seconds=report.total_seconds,
        complete=report.complete,
    )


def progress_from_wire(message: checkpoint_pb2.LoadProgress) -> LoadProgress:
    """Return how far a load has come."""
    return LoadProgress(message.loaded_bytes, message.total_bytes, tier_from_wire(getattr(message, "from")))


def progress_to_wire(progress: LoadProgress) -> checkpoint_pb2.LoadProgress:
    """Return the message for how far a load has come."""
    return checkpoint_pb2.LoadProgress(
        loaded_bytes=progress.loaded_bytes,
        total_bytes=progress.total_bytes,
        **{"from": tier_to_wire(progress.source)},
    )


def worker_report_from_wire(message: inference_pb2.WatchWorkerResponse) -> WorkerReport:
    """Return what a worker says it runs."""
    running = tuple(_running_from_wire(instance) for instance in message.instances)
    parked = tuple(ParkedCheckpoint(one.digest, one.bytes) for one in message.parked)
    return WorkerReport(message.worker_id, running, message.draining, parked)


def _running_from_wire(message: inference_pb2.RunningInstance) -> ReportedInstance:
    loaded = report_from_wire(message.report) if message.report.complete else None
    tokens = dict(zip(message.generation_ids, message.generation_tokens, strict=False))
    return ReportedInstance(
        message.instance_id, frozenset(message.generation_ids), loaded, dict(message.tenants), tokens
    )

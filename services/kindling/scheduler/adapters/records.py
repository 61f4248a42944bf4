"""Between the scheduler's values and the records of etcd."""

from kindling.scheduler.domain.answers import Answer
from kindling.scheduler.domain.quotas import TenantQuota
from kindling.scheduler.domain.values import Instance, InstanceState, Migration, Node, Residency, Worker
from kindling.scheduler.wire import (
    STATE_FROM_WIRE,
    STATE_TO_WIRE,
    model_from_wire,
    model_to_wire,
    quota_from_wire,
    quota_to_wire,
    report_from_wire,
    report_to_wire,
    seconds_of,
    tier_from_wire,
    tier_use_from_wire,
    timestamp,
)
from kindling.v1 import state_pb2


def node_from_record(record: state_pb2.NodeRecord) -> Node:
    """Return a node as it registered."""
    tiers = (tier_use_from_wire(tier) for tier in record.tiers)
    return Node(record.node_id, record.storage_address, tuple(tier for tier in tiers if tier))


def worker_from_record(record: state_pb2.WorkerRecord) -> Worker:
    """Return a worker as it registered; one that says nothing of slots has one."""
    return Worker(
        worker_id=record.worker_id,
        node_id=record.node_id,
        address=record.address,
        device=record.device or "cpu",
        slots=record.slots or 1,
        init_seconds=record.init_seconds,
        memory_bytes=record.memory_bytes,
    )


def residency_from_record(record: state_pb2.ResidencyRecord) -> Residency:
    """Return how much of a checkpoint a node holds."""
    held = ((tier_from_wire(entry.tier), entry.bytes) for entry in record.tiers)
    return Residency(record.node_id, record.digest, {tier: count for tier, count in held if tier})


def instance_from_record(record: state_pb2.InstanceRecord) -> Instance:
    """Return an instance as it was recorded; one in a state that we do not know is finished as stopping."""
    return Instance(
        instance_id=record.instance_id,
        model=record.model,
        digest=record.checkpoint_digest,
        worker_id=record.worker_id,
        state=STATE_FROM_WIRE.get(record.state, InstanceState.STOPPING),
        create_time=seconds_of(record.create_time),
        estimated_seconds=record.estimated_seconds,
        report=report_from_wire(record.report) if record.HasField("report") else None,
        tenant=record.tenant if record.HasField("tenant") else None,
        device_bytes=record.device_bytes,
        others=tuple(record.other_worker_ids),
    )


def migration_from_record(record: state_pb2.DecisionRecord) -> Migration | None:
    """Return the migration that was decided; none for other decisions, which the instances' states tell."""
    if record.kind != state_pb2.DECISION_KIND_MIGRATE:
        return None
    return Migration(record.instance_id, record.target_instance_id)


def instance_to_record(instance: Instance) -> state_pb2.InstanceRecord:
    """Return the record of an instance."""
    return state_pb2.InstanceRecord(
        instance_id=instance.instance_id,
        model=instance.model,
        checkpoint_digest=instance.digest,
        worker_id=instance.worker_id,
        state=STATE_TO_WIRE[instance.state],
        create_time=timestamp(instance.create_time),
        estimated_seconds=instance.estimated_seconds,
        report=report_to_wire(instance.report) if instance.report else None,
        tenant=instance.tenant,
        device_bytes=instance.device_bytes,
        other_worker_ids=instance.others,
    )


def quota_from_record(record: state_pb2.TenantRecord) -> TenantQuota:
    """Return what a tenant may have."""
    return TenantQuota(record.tenant, quota_from_wire(record.quota))


def quota_to_record(one: TenantQuota) -> state_pb2.TenantRecord:
    """Return the record of what a tenant may have."""
    return state_pb2.TenantRecord(tenant=one.tenant, quota=quota_to_wire(one.quota))


def answer_from_record(record: state_pb2.RequestRecord) -> Answer:
    """Return what a mutation was answered."""
    deployed = model_from_wire(record.deployed) if record.HasField("deployed") else None
    return Answer(record.request_id, record.model_name, deployed, seconds_of(record.create_time))


def answer_to_record(answer: Answer) -> state_pb2.RequestRecord:
    """Return the record of what a mutation was answered."""
    return state_pb2.RequestRecord(
        request_id=answer.request_id,
        model_name=answer.model_name,
        deployed=model_to_wire(answer.deployed) if answer.deployed else None,
        create_time=timestamp(answer.create_time),
    )

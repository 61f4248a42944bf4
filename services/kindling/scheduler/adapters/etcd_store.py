"""The cluster's records in etcd, written as the leader."""

from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Sequence
from contextlib import aclosing
from typing import TypeAlias

from kindling.platform.clock import Clock
from kindling.platform.errors import DataLossError
from kindling.platform.etcd import (
    Delete,
    EtcdClient,
    EventKind,
    KeyValue,
    Leadership,
    Operation,
    Put,
    Snapshot,
    WatchEvent,
)
from kindling.platform.etcd_records import (
    decision_key,
    decode_record,
    drain_key,
    encode_record,
    instance_key,
    last_write_key,
    model_key,
    request_key,
    retirement_key,
    tenant_key,
)
from kindling.platform.logging import get_logger
from kindling.scheduler.adapters.ordered_writes import OrderedWrites
from kindling.scheduler.adapters.records import (
    answer_from_record,
    answer_to_record,
    instance_from_record,
    instance_to_record,
    migration_from_record,
    node_from_record,
    quota_from_record,
    quota_to_record,
    residency_from_record,
    worker_from_record,
)
from kindling.scheduler.domain.answers import Answer
from kindling.scheduler.domain.quotas import TenantQuota
from kindling.scheduler.domain.values import Drain, Instance, Migration, Model, Node, Residency, Retirement, Worker
from kindling.scheduler.ports import Closing, NodeGone, Records, ResidencyGone, TopologyChange, WorkerGone
from kindling.scheduler.wire import model_from_wire, model_to_wire, timestamp
from kindling.v1 import state_pb2

log = get_logger(__name__)
Kind: TypeAlias = "state_pb2.DecisionKind.ValueType"
Value = Node | Worker | Residency | Model | Instance | Migration | Drain | Retirement | Answer | TenantQuota

_DECODERS: dict[str, Callable[[bytes], Value | None]] = {
    "nodes": lambda data: node_from_record(decode_record(state_pb2.NodeRecord, data)),
    "workers": lambda data: worker_from_record(decode_record(state_pb2.WorkerRecord, data)),
    "residency": lambda data: residency_from_record(decode_record(state_pb2.ResidencyRecord, data)),
    "models": lambda data: model_from_wire(decode_record(state_pb2.ModelRecord, data).model),
    "instances": lambda data: instance_from_record(decode_record(state_pb2.InstanceRecord, data)),
    "decisions": lambda data: migration_from_record(decode_record(state_pb2.DecisionRecord, data)),
    "retirements": lambda data: Retirement(decode_record(state_pb2.RetirementRecord, data).digest),
    "requests": lambda data: answer_from_record(decode_record(state_pb2.RequestRecord, data)),
    "tenants": lambda data: quota_from_record(decode_record(state_pb2.TenantRecord, data)),
    "drains": lambda data: Drain(decode_record(state_pb2.DrainRecord, data).node_id),
}
_VERBS = {
    state_pb2.DECISION_KIND_START: "start",
    state_pb2.DECISION_KIND_STOP: "stop",
    state_pb2.DECISION_KIND_MIGRATE: "migrate",
}
# Only the leader writes the others, and it knows what it wrote.
_TOPOLOGY = ("nodes", "workers", "residency")


class EtcdStore:
    """The store of one leadership."""

    def __init__(self, etcd: EtcdClient, leadership: Leadership, prefix: str, clock: Clock) -> None:
        self._etcd = etcd
        self._writes = OrderedWrites(leadership, last_write_key(prefix), clock)
        self._prefix = prefix
        self._clock = clock

    async def follow(self) -> AsyncGenerator[Records | TopologyChange, None]:
        """Yield everything, then each change of nodes, workers and residency; everything again if some were missed."""
        async with aclosing(self._etcd.watch(self._prefix)) as updates:
            async for update in updates:
                if isinstance(update, Snapshot):
                    yield self._records(update.items)
                else:
                    for change in self._changes(update.events):
                        yield change

    async def confirm(self) -> None:
        """Return if this scheduler still leads, as etcd sees it."""
        await self._write()

    async def record_start(self, instance: Instance, reason: str) -> None:
        """Record an instance that is about to start, and the decision."""
        await self._write(*self._start(instance, reason))

    async def record_ready(self, instance: Instance) -> None:
        """Record that an instance computes; its decision is done."""
        decision = self._end_decision(instance.instance_id, state_pb2.DECISION_KIND_START)
        await self._write(self._put_instance(instance), decision)

    async def record_stop(self, instance: Instance, reason: str) -> None:
        """Record an instance that is about to stop, and the decision."""
        decision = self._decision(instance.instance_id, state_pb2.DECISION_KIND_STOP, reason)
        await self._write(self._put_instance(instance), decision)

    async def forget_instances(self, instance_ids: Sequence[str]) -> None:
        """Delete instances and their decisions."""
        deletions: list[Operation] = []
        for instance_id in instance_ids:
            deletions += [Delete(instance_key(self._prefix, instance_id)), *self._end_decisions(instance_id)]
        await self._write(*deletions)

    async def record_migration(self, migration: Migration, reason: str, start: Instance | None) -> None:
        """Record the decision to move an instance, at once with the start of its target if there is one."""
        kind = state_pb2.DECISION_KIND_MIGRATE
        decision = self._decision(migration.source_id, kind, reason, migration.target_id)
        await self._write(decision, *(self._start(start, reason) if start else ()))

    async def forget_migration(self, migration: Migration) -> None:
        """Delete the decision to move an instance; stopping the source does so too."""
        await self._write(self._end_decision(migration.source_id, state_pb2.DECISION_KIND_MIGRATE))

    async def put_drain(self, drain: Drain) -> None:
        """Record that a node is drained."""
        record = state_pb2.DrainRecord(node_id=drain.node_id, create_time=timestamp(self._clock.wall()))
        await self._write(Put(drain_key(self._prefix, drain.node_id), encode_record(record)))

    async def delete_drain(self, node_id: str) -> None:
        """Record that a node serves again."""
        await self._write(Delete(drain_key(self._prefix, node_id)))

    async def put_quota(self, quota: TenantQuota) -> None:
        """Record what a tenant may have."""
        await self._write(Put(tenant_key(self._prefix, quota.tenant), encode_record(quota_to_record(quota))))

    async def delete_quota(self, tenant: str) -> None:
        """Record that a tenant has no quota of its own."""
        await self._write(Delete(tenant_key(self._prefix, tenant)))

    async def put_model(self, model: Model, closing: Closing | None) -> None:
        """Record a model; its checkpoint is not retired any more."""
        record = state_pb2.ModelRecord(model=model_to_wire(model))
        put = Put(model_key(self._prefix, model.name), encode_record(record))
        spare = Delete(retirement_key(self._prefix, model.checkpoint.digest))
        await self._write(put, spare, *self._close(closing))

    async def delete_model(self, name: str, retirement: Retirement | None, closing: Closing | None) -> None:
        """Delete a model, at once with the decision to retire its checkpoint if there is one."""
        operations: list[Operation] = [Delete(model_key(self._prefix, name)), *self._close(closing)]
        if retirement is not None:
            record = state_pb2.RetirementRecord(digest=retirement.digest, create_time=timestamp(self._clock.wall()))
            operations.append(Put(retirement_key(self._prefix, retirement.digest), encode_record(record)))
        await self._write(*operations)

    async def forget_retirement(self, digest: str) -> None:
        """Delete the decision to retire a checkpoint."""
        await self._write(Delete(retirement_key(self._prefix, digest)))

    async def _write(self, *operations: Operation) -> None:
        await self._writes.write(operations)

    def _close(self, closing: Closing | None) -> list[Operation]:
        if closing is None:
            return []
        put = Put(request_key(self._prefix, closing.answer.request_id), encode_record(answer_to_record(closing.answer)))
        return [put, *(Delete(request_key(self._prefix, request_id)) for request_id in closing.obsolete)]

    def _put_instance(self, instance: Instance) -> Put:
        record = instance_to_record(instance)
        return Put(instance_key(self._prefix, instance.instance_id), encode_record(record))

    def _start(self, instance: Instance, reason: str) -> list[Put]:
        decision = self._decision(instance.instance_id, state_pb2.DECISION_KIND_START, reason)
        return [self._put_instance(instance), decision]

    def _decision(self, instance_id: str, kind: Kind, reason: str, target_id: str = "") -> Put:
        decision_id = _decision_id(instance_id, kind)
        record = state_pb2.DecisionRecord(
            decision_id=decision_id,
            kind=kind,
            instance_id=instance_id,
            target_instance_id=target_id,
            reason=reason,
            create_time=timestamp(self._clock.wall()),
        )
        return Put(decision_key(self._prefix, decision_id), encode_record(record))

    def _end_decisions(self, instance_id: str) -> list[Delete]:
        return [self._end_decision(instance_id, kind) for kind in _VERBS]

    def _end_decision(self, instance_id: str, kind: Kind) -> Delete:
        return Delete(decision_key(self._prefix, _decision_id(instance_id, kind)))

    def _records(self, items: Sequence[KeyValue]) -> Records:
        values = [value for item in items if (value := self._decode(item, _DECODERS)) is not None]
        return Records(
            nodes=tuple(value for value in values if isinstance(value, Node)),
            workers=tuple(value for value in values if isinstance(value, Worker)),
            residency=tuple(value for value in values if isinstance(value, Residency)),
            models=tuple(value for value in values if isinstance(value, Model)),
            instances=tuple(value for value in values if isinstance(value, Instance)),
            migrations=tuple(value for value in values if isinstance(value, Migration)),
            drains=tuple(value for value in values if isinstance(value, Drain)),
            retirements=tuple(value for value in values if isinstance(value, Retirement)),
            answers=tuple(value for value in values if isinstance(value, Answer)),
            quotas=tuple(value for value in values if isinstance(value, TenantQuota)),
        )

    def _changes(self, events: Sequence[WatchEvent]) -> Iterator[TopologyChange]:
        for event in events:
            if event.kind is EventKind.DELETE:
                change: Value | TopologyChange | None = self._gone(event.item.key)
            else:
                change = self._decode(event.item, _TOPOLOGY)
            if isinstance(change, TopologyChange):
                yield change

    def _decode(self, item: KeyValue, kinds: Collection[str]) -> Value | None:
        """Return the value of a key of one of ``kinds``; one that cannot be read is left out, and said so."""
        kind, _, _ = item.key.removeprefix(self._prefix).partition("/")
        if kind not in kinds:
            return None
        try:
            return _DECODERS[kind](item.value)
        except DataLossError as error:
            log.error("record_unreadable", key=item.key, message=error.message)
            return None

    def _gone(self, key: str) -> TopologyChange | None:
        kind, _, name = key.removeprefix(self._prefix).partition("/")
        if kind == "nodes":
            return NodeGone(name)
        if kind == "workers":
            return WorkerGone(name)
        if kind == "residency":
            node_id, _, digest = name.partition("/")
            return ResidencyGone(node_id, digest)
        return None


def _decision_id(instance_id: str, kind: Kind) -> str:
    return f"{_VERBS[kind]}-{instance_id}"

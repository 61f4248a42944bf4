"""Whether what the view looks up is what its records say."""

import math

from kindling.scheduler.domain.records import ClusterRecords
from kindling.scheduler.domain.values import Instance, InstanceState, Migration, Worker


def check(records: ClusterRecords) -> None:
    """Raise AssertionError if an index and the records do not say the same, or a slot is given twice."""
    for index, key in ((records.of_model, "model"), (records.on_worker, "worker_id")):
        indexed = {(owner, name) for owner, names in index.items() for name in names}
        assert indexed == {(getattr(i, key), i.instance_id) for i in records.instances.values()}
    assert records.confirmed <= records.instances.keys()
    for worker in records.workers.values():
        decided = [i for i in records.instances_on(worker.worker_id) if i.state is not InstanceState.STOPPING]
        assert len(decided) <= worker.slots, f"{worker.worker_id} is double-booked"
        _check_memory(worker, [records.footprints.of(i.instance_id) for i in decided])
    for migration in records.migrations.values():
        _check_migration(records, migration)
    for part in (records.migrations, records.holders, records.loads, records.slots):
        part.check_integrity()
    _check_workers(records)
    _check_instances(records)


def _check_memory(worker: Worker, footprints: list[float]) -> None:
    known = sum(footprint for footprint in footprints if footprint < math.inf)
    assert not worker.memory_bytes or known <= worker.memory_bytes, f"{worker.worker_id} holds more than it can"


def _check_migration(records: ClusterRecords, migration: Migration) -> None:
    source, target = records.instances[migration.source_id], records.instances[migration.target_id]
    assert source.state is InstanceState.READY
    assert target.state is not InstanceState.STOPPING
    assert (source.digest, source.model) == (target.digest, target.model)
    assert source.worker_id != target.worker_id
    assert target.instance_id not in records.migrations, "a target stays where it is"


def _check_workers(records: ClusterRecords) -> None:
    assert records.startable == {name for name, worker in records.workers.items() if records.can_start(worker)}
    unheard = {one.worker_id for one in records.instances.values() if not records.link(one.worker_id).connected}
    assert records.unheard == unheard
    there = {name for names in records.workers_on.values() for name in names}
    assert there == records.workers.keys() | {one.worker_id for one in records.instances.values()}
    for name, worker in records.workers.items():
        assert (name in records.slots) == (name in records.startable and _has_place(records, worker))
        _check_offer(records, worker)


def _has_place(records: ClusterRecords, worker: Worker) -> bool:
    return records.free_slots(worker) > 0 and records.free_bytes(worker) > 0


def _check_offer(records: ClusterRecords, worker: Worker) -> None:
    if (offer := records.slots.offer(worker.worker_id)) is not None:
        assert offer.worker == worker
        assert offer.free_bytes == records.free_bytes(worker)
        assert offer.speed == records.remote_speed(worker)
        assert offer.group.is_loading == bool(records.loads.on_node(worker.node_id))


def _check_instances(records: ClusterRecords) -> None:
    instances = records.instances.values()
    assert records.stopping == {i.instance_id for i in instances if i.state is InstanceState.STOPPING}
    staying = [i for i in instances if i.state is InstanceState.READY and not records.migrations_of(i.instance_id)]
    assert records.replaced == {i.instance_id for i in staying if not records.is_current(i)}
    records.devices.check_integrity(instances)
    records.idle.check_integrity({i.instance_id: _idle_since(records, i) for i in staying if _is_idle(records, i)})


def _is_idle(records: ClusterRecords, instance: Instance) -> bool:
    return not instance.is_loading and not records.is_busy(instance)


def _idle_since(records: ClusterRecords, instance: Instance) -> float:
    idle_since = records.grants.idle_since(instance.instance_id)
    assert idle_since is not None
    return idle_since

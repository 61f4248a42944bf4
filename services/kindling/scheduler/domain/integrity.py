"""Whether what the view looks up is what its records say."""

from kindling.scheduler.domain.records import ClusterRecords
from kindling.scheduler.domain.review import is_light, needs
from kindling.scheduler.domain.values import Instance, InstanceState, Migration, Worker


def check(records: ClusterRecords) -> None:
    """Raise AssertionError if an index and the records do not say the same, or a slot is given twice."""
    _check_owners(records)
    assert records.confirmed <= records.instances.keys()
    for worker in records.workers.values():
        decided = [i for i in records.instances_on(worker.worker_id) if i.state is not InstanceState.STOPPING]
        assert len(decided) <= worker.slots, f"{worker.worker_id} is double-booked"
        needed_bytes = sum(i.device_bytes for i in decided)
        assert needed_bytes <= (worker.memory_bytes or needed_bytes), f"the memory of {worker.worker_id} is given twice"
    for migration in records.migrations.values():
        _check_migration(records, migration)
    for part in (records.migrations, records.holders, records.loads, records.slots, records.light):
        part.check_integrity()
    _check_workers(records)
    _check_instances(records)


def _check_owners(records: ClusterRecords) -> None:
    instances = records.instances.values()
    of_model = {(model, name) for model, names in records.of_model.items() for name in names}
    assert of_model == {(i.model, i.instance_id) for i in instances}
    on_worker = {(worker_id, name) for worker_id, names in records.on_worker.items() for name in names}
    assert on_worker == {(worker_id, i.instance_id) for i in instances for worker_id in i.worker_ids}


def _check_migration(records: ClusterRecords, migration: Migration) -> None:
    source, target = records.instances[migration.source_id], records.instances[migration.target_id]
    assert source.state is InstanceState.READY
    assert target.state is not InstanceState.STOPPING
    assert (source.digest, source.model) == (target.digest, target.model)
    assert source.worker_id != target.worker_id
    assert target.instance_id not in records.migrations, "a target stays where it is"


def _check_workers(records: ClusterRecords) -> None:
    assert records.startable == {name for name, worker in records.workers.items() if records.can_start(worker)}
    running = {worker_id for one in records.instances.values() for worker_id in one.worker_ids}
    missed = {name for one in records.instances.values() for name in one.worker_ids if needs(one, name)}
    assert records.unheard == {worker_id for worker_id in missed if not records.link(worker_id).connected}
    there = {name for names in records.workers_on.values() for name in names}
    assert there == records.workers.keys() | running
    for name, worker in records.workers.items():
        assert (name in records.slots) == (name in records.startable and records.free_slots(worker) > 0)
        _check_offer(records, worker)


def _check_offer(records: ClusterRecords, worker: Worker) -> None:
    if (offer := records.slots.offer(worker.worker_id)) is not None:
        assert offer.worker == worker
        assert offer.speed == records.remote_speed(worker)
        assert offer.group.is_loading == bool(records.loads.on_node(worker.node_id))
        assert offer.free_bytes == records.free_bytes(worker)


def _check_instances(records: ClusterRecords) -> None:
    instances = records.instances.values()
    assert records.stopping == {i.instance_id for i in instances if i.state is InstanceState.STOPPING}
    staying = [i for i in instances if i.state is InstanceState.READY and not records.migrations_of(i.instance_id)]
    assert records.replaced == {i.instance_id for i in staying if not records.is_current(i)}
    records.devices.check_integrity(instances)
    busy = {i.instance_id: i for i in staying if not i.is_loading and records.is_busy(i)}
    light = {name: records.grants.in_flight(name) for name, one in busy.items() if is_light(records, one)}
    assert {name: load for load, name in records.light} == light
    records.idle.check_integrity({i.instance_id: _idle_since(records, i) for i in staying if _is_idle(records, i)})


def _is_idle(records: ClusterRecords, instance: Instance) -> bool:
    return not instance.is_loading and not records.is_busy(instance)


def _idle_since(records: ClusterRecords, instance: Instance) -> float:
    idle_since = records.grants.idle_since(instance.instance_id)
    assert idle_since is not None
    return idle_since

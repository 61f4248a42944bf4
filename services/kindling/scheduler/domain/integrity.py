"""Whether what the view looks up is what its records say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kindling.scheduler.domain.values import Instance, InstanceState, Migration, Worker

if TYPE_CHECKING:
    from kindling.scheduler.domain.view import ClusterView


def check(view: ClusterView) -> None:
    """Raise AssertionError if an index and the records do not say the same, or a slot is given twice."""
    for index, key in ((view.of_model, "model"), (view.on_worker, "worker_id")):
        indexed = {(owner, name) for owner, names in index.items() for name in names}
        assert indexed == {(getattr(i, key), i.instance_id) for i in view.instances.values()}
    assert view.confirmed <= view.instances.keys()
    for worker in view.workers.values():
        decided = [i for i in view.instances_on(worker.worker_id) if i.state is not InstanceState.STOPPING]
        assert len(decided) <= worker.slots, f"{worker.worker_id} is double-booked"
    for migration in view.migrations.values():
        _check_migration(view, migration)
    for part in (view.migrations, view.holders, view.loads, view.slots):
        part.check_integrity()
    _check_workers(view)
    _check_instances(view)


def _check_migration(view: ClusterView, migration: Migration) -> None:
    source, target = view.instances[migration.source_id], view.instances[migration.target_id]
    assert source.state is InstanceState.READY
    assert target.state is not InstanceState.STOPPING
    assert (source.digest, source.model) == (target.digest, target.model)
    assert source.worker_id != target.worker_id
    assert target.instance_id not in view.migrations, "a target stays where it is"


def _check_workers(view: ClusterView) -> None:
    assert view.startable == {name for name, worker in view.workers.items() if view.can_start(worker)}
    unheard = {one.worker_id for one in view.instances.values() if not view.link(one.worker_id).connected}
    assert view.unheard == unheard
    there = {name for names in view.workers_on.values() for name in names}
    assert there == view.workers.keys() | {one.worker_id for one in view.instances.values()}
    for name, worker in view.workers.items():
        assert (name in view.slots) == (name in view.startable and view.free_slots(worker) > 0)
        _check_offer(view, worker)


def _check_offer(view: ClusterView, worker: Worker) -> None:
    if (offer := view.slots.offer(worker.worker_id)) is not None:
        assert offer.worker == worker
        assert offer.speed == view.remote_speed(worker)
        assert offer.group.is_loading == bool(view.loads.on_node(worker.node_id))


def _check_instances(view: ClusterView) -> None:
    instances = view.instances.values()
    assert view.stopping == {i.instance_id for i in instances if i.state is InstanceState.STOPPING}
    staying = [i for i in instances if i.state is InstanceState.READY and not view.migrations_of(i.instance_id)]
    assert view.replaced == {i.instance_id for i in staying if not view.is_current(i)}
    view.idle.check_integrity({i.instance_id: _idle_since(view, i) for i in staying if _is_idle(view, i)})


def _is_idle(view: ClusterView, instance: Instance) -> bool:
    return not instance.is_loading and not view.is_busy(instance)


def _idle_since(view: ClusterView, instance: Instance) -> float:
    idle_since = view.grants.idle_since(instance.instance_id)
    assert idle_since is not None
    return idle_since

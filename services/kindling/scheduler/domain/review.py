"""What to enter into the view's indexes for a worker, a model or an instance of which something has changed."""

from kindling.scheduler.domain.records import ClusterRecords
from kindling.scheduler.domain.values import NEVER, Instance, InstanceState


def review_worker(records: ClusterRecords, worker_id: str) -> None:
    """Whether a worker can start instances, has a free slot, and is heard of as long as it has instances."""
    worker, there = records.workers.get(worker_id), records.on_worker.get(worker_id, ())
    _mark(records.workers_on[worker_id.rpartition("/")[0]], worker_id, worker is not None or bool(there))
    records.sizes.enter(worker_id, worker)
    can_start = worker is not None and records.can_start(worker)
    _mark(records.startable, worker_id, can_start)
    is_missed = not records.link(worker_id).connected and any(
        needs(records.instances[name], worker_id) for name in there
    )
    _mark(records.unheard, worker_id, is_missed)
    if worker is None or not can_start or not records.free_slots(worker):
        records.slots.drop(worker_id)
    else:
        is_loading = bool(records.loads.on_node(worker.node_id))
        records.slots.put(worker, records.remote_speed(worker), is_loading, records.free_bytes(worker))


def needs(instance: Instance, worker_id: str) -> bool:
    """Whether something has to be done once a worker of an instance is lost; not if another stops it already."""
    return worker_id == instance.worker_id or instance.state is not InstanceState.STOPPING


def review_model(records: ClusterRecords, name: str) -> None:
    """Whether a model keeps a minimum running; its instances are to be looked at as well."""
    model = records.models.get(name)
    _mark(records.minimal, name, model is not None and model.settings.min_instances > 0)


def review_instance(records: ClusterRecords, instance_id: str) -> None:
    """Whether an instance stops, runs what nothing points at, is idle, or has little to do."""
    instance = records.instances.get(instance_id)
    state = instance.state if instance else None
    stays = state is InstanceState.READY and not records.migrations_of(instance_id)
    is_current = instance is not None and records.is_current(instance)
    _mark(records.stopping, instance_id, state is InstanceState.STOPPING)
    _mark(records.replaced, instance_id, stays and not is_current)
    if instance is None or not stays or instance.is_loading:
        records.idle.drop(instance_id)
        records.light.drop(instance_id)
    elif records.is_busy(instance):
        records.idle.drop(instance_id)
        _review_busy(records, instance)
    else:
        records.light.drop(instance_id)
        _review_idle(records, instance)


def _review_busy(records: ClusterRecords, instance: Instance) -> None:
    if is_light(records, instance):
        records.light.put(instance.instance_id, records.grants.in_flight(instance.instance_id))
    else:
        records.light.drop(instance.instance_id)


def is_light(records: ClusterRecords, instance: Instance) -> bool:
    """Whether a busy instance is one of several of its model, and two such could be one: of two that can, one is."""
    if not records.is_current(instance) or len(records.of_model[instance.model]) == 1:
        return False
    most = records.models[instance.model].settings.concurrency_target
    return 2 * records.grants.in_flight(instance.instance_id) <= most


def _review_idle(records: ClusterRecords, instance: Instance) -> None:
    instance_id, is_current = instance.instance_id, records.is_current(instance)
    idle_since = records.grants.idle_since(instance_id)
    assert idle_since is not None
    kept_seconds = records.models[instance.model].settings.keep_alive_seconds if is_current else NEVER
    records.idle.put(instance_id, idle_since, idle_since + kept_seconds)


def _mark(names: set[str], name: str, belongs: bool) -> None:
    names.add(name) if belongs else names.discard(name)

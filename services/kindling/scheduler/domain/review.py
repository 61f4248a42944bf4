"""What to enter into the view's indexes for a worker, a model or an instance of which something has changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kindling.scheduler.domain.values import NEVER, InstanceState

if TYPE_CHECKING:
    from kindling.scheduler.domain.view import ClusterView


def review_worker(view: ClusterView, worker_id: str) -> None:
    """Whether a worker can start instances, has a free slot, and is heard of as long as it has instances."""
    worker, has_instances = view.workers.get(worker_id), bool(view.on_worker.get(worker_id))
    _mark(view.workers_on[worker_id.rpartition("/")[0]], worker_id, worker is not None or has_instances)
    can_start = worker is not None and view.can_start(worker)
    _mark(view.startable, worker_id, can_start)
    _mark(view.unheard, worker_id, has_instances and not view.link(worker_id).connected)
    if worker is None or not can_start or not view.free_slots(worker):
        view.slots.drop(worker_id)
    else:
        view.slots.put(worker, view.remote_speed(worker), is_loading=bool(view.loads.on_node(worker.node_id)))


def review_model(view: ClusterView, name: str) -> None:
    """Whether a model keeps a minimum running; its instances are to be looked at as well."""
    model = view.models.get(name)
    _mark(view.minimal, name, model is not None and model.settings.min_instances > 0)


def review_instance(view: ClusterView, instance_id: str) -> None:
    """Whether an instance stops, runs what nothing points at, or is idle."""
    instance = view.instances.get(instance_id)
    state = instance.state if instance else None
    stays = state is InstanceState.READY and not view.migrations_of(instance_id)
    is_current = instance is not None and view.is_current(instance)
    _mark(view.stopping, instance_id, state is InstanceState.STOPPING)
    _mark(view.replaced, instance_id, stays and not is_current)
    if instance is None or not stays or instance.is_loading or view.is_busy(instance):
        view.idle.drop(instance_id)
        return
    idle_since = view.grants.idle_since(instance_id)
    assert idle_since is not None
    kept_seconds = view.models[instance.model].settings.keep_alive_seconds if is_current else NEVER
    view.idle.put(instance_id, idle_since, idle_since + kept_seconds)


def _mark(names: set[str], name: str, belongs: bool) -> None:
    names.add(name) if belongs else names.discard(name)

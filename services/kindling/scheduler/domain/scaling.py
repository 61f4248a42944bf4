"""How many instances a model wants, and which it has too many."""

from kindling.scheduler.domain.values import Instance, InstanceState, Model, ModelSettings
from kindling.scheduler.domain.view import ClusterView

REPLACED = "the model was deleted or points at another checkpoint"
KEEP_ALIVE_OVER = "without work for longer than keep-alive"


def wanted_instances(settings: ModelSettings, demand: int) -> int:
    """Instances that ``demand`` generations want, within the model's bounds."""
    wanted = max(settings.min_instances, -(-demand // settings.concurrency_target))
    return min(wanted, settings.max_instances) if settings.max_instances else wanted


def demand(view: ClusterView, model: Model, queued: int, avoid: frozenset[str] = frozenset()) -> int:
    """Generations of a model that wait, or run on what it points at now and not on what is to be avoided."""
    running = (i.instance_id for i in view.instances_of(model.name) if view.serves(i) and i.instance_id not in avoid)
    return queued + sum(view.load(instance_id) for instance_id in running)


def capacity(view: ClusterView, model: Model, avoid: frozenset[str] = frozenset()) -> int:
    """Instances of a model that serve, or will once they are started, those to be avoided left out."""
    return sum(
        view.serves(i) or will_serve(view, i) for i in view.instances_of(model.name) if i.instance_id not in avoid
    )


def will_serve(view: ClusterView, instance: Instance) -> bool:
    """Whether an instance that starts will take generations once it is ready."""
    return instance.state is InstanceState.STARTING and view.is_current(instance) and not view.is_leaving(instance)


def alive(view: ClusterView, model: Model, avoid: frozenset[str] = frozenset()) -> int:
    """Instances of a model that count against its maximum: all that have not been told to stop.

    One that is to be avoided, and whose worker does not answer us either, counts no more.
    """
    return sum(
        i.state is not InstanceState.STOPPING and (i.instance_id not in avoid or view.link(i.worker_id).connected)
        for i in view.instances_of(model.name)
    )


def surplus(view: ClusterView, instance: Instance, now: float) -> str | None:
    """Why an instance should stop, or none if it should stay."""
    if instance.state is not InstanceState.READY or view.migrations_of(instance.instance_id):
        return None
    if not view.is_current(instance):
        return REPLACED
    return KEEP_ALIVE_OVER if is_spare(view, instance) and _stays_until(view, instance) <= now else None


def is_spare(view: ClusterView, instance: Instance, besides: int = 0) -> bool:
    """Whether an instance that is ready and loaded has no work, does not migrate, and ``min_instances`` are there
    without it and so many of its model ``besides``."""
    if instance.state is not InstanceState.READY or instance.is_loading or view.is_busy(instance):
        return False
    if view.migrations_of(instance.instance_id):
        return False
    return keeps_minimum(view, instance, besides)


def keeps_minimum(view: ClusterView, instance: Instance, besides: int = 0) -> bool:
    """Whether ``min_instances`` serve without an instance, and without so many others of its model ``besides``."""
    model = view.models.get(instance.model)
    if model is None or not model.settings.min_instances:
        return True
    others = sum(view.serves(i) for i in view.instances_of(model.name) if i.instance_id != instance.instance_id)
    return others - besides >= model.settings.min_instances


def next_keep_alive(view: ClusterView, now: float) -> float | None:
    """When the keep-alive of an instance is over next, those already over left out."""
    return next((end for end, name in view.idle.ends_after(now) if is_spare(view, view.instances[name])), None)


def perhaps_surplus(view: ClusterView, now: float) -> list[Instance]:
    """The instances that may be surplus, all others are not; those first that have been there longest."""
    return view.in_order_of_entry(view.replaced.union(view.idle.over(now)))


def _stays_until(view: ClusterView, instance: Instance) -> float:
    idle_since = view.grants.idle_since(instance.instance_id)
    assert idle_since is not None
    return idle_since + view.models[instance.model].settings.keep_alive_seconds

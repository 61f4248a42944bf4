"""When a request had better not be bound yet to an instance that takes generations while it loads."""

from kindling.scheduler.domain.estimate import expected_at
from kindling.scheduler.domain.values import Instance, Request
from kindling.scheduler.domain.view import ClusterView


def better_until(view: ClusterView, request: Request, instance: Instance, waiting: int, now: float) -> float | None:
    """Return until when a request had better stay in line, with all ``waiting``; none if it may go to ``instance``.

    Bound to an instance that loads, a request gets its first token when the load ends; in line, it can take a place in
    a loaded one. These become free at the sum of the rates at which their generations end, each the inverse of what is
    left on average to those of its age; so all who wait have one after ``waiting / rate`` seconds.
    """
    if not instance.is_loading or not _may_stay(view, request, waiting):
        return None
    rate = sum(_ends_per_second(view, one, now) for one in view.instances_of(instance.model) if not one.is_loading)
    until = expected_at(instance) - waiting / rate if rate else now
    return until if until > now else None


def _may_stay(view: ClusterView, request: Request, waiting: int) -> bool:
    """Whether that takes nobody's place in line: where these are few, the next one to come might be turned away."""
    most = view.models[request.model].settings.max_queued_requests
    return waiting < most and not view.quotas.of(request.tenant).waiting


def _ends_per_second(view: ClusterView, instance: Instance, now: float) -> float:
    """How often a place becomes free in an instance; never, as far as is known, where nobody can say."""
    if not view.serves(instance) or (began := view.grants.began(instance.instance_id)) is None:
        return 0.0
    left = (view.experience.generation_left(instance.digest, now - at) for at in began)
    return sum(1 / seconds for seconds in left if seconds)

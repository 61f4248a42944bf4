"""What tenants have, as metrics: by name for those that an operator gave quotas to, all others together."""

from collections.abc import Callable, Mapping
from functools import partial

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Meter, Observation

from kindling.scheduler.domain.quotas import EVERYBODY_ELSE
from kindling.scheduler.term import Term

_MOST = 100  # named; anybody can name any number of tenants, and whoever keeps metrics pays for each
Reading = Callable[[Term], Mapping[str, int]]


def _running(term: Term) -> Mapping[str, int]:
    return dict(term.view.grants.tenants())


def _waiting(term: Term) -> Mapping[str, int]:
    return dict(term.planner.lines.tenants())


def _devices(term: Term) -> Mapping[str, int]:
    return {tenant: term.view.devices.count(tenant) for tenant in tuple(term.view.devices.tenants())}


_METRICS: tuple[tuple[str, str, str, Reading], ...] = (
    ("kindling.tenant.generations", "{generation}", "Generations that run, by tenant.", _running),
    ("kindling.tenant.waiting", "{request}", "Requests that wait, by tenant.", _waiting),
    ("kindling.tenant.devices", "{instance}", "Instances started on a tenant's behalf, by tenant.", _devices),
)


def watch_tenants(present_term: Callable[[], Term | None], meter: Meter | None = None) -> None:
    """Have the process's metrics, or those of ``meter``, say what tenants have while this scheduler leads."""
    meter = meter or metrics.get_meter(__name__)
    for name, unit, description, read in _METRICS:
        meter.create_observable_gauge(name, [partial(_look, present_term, read)], unit, description)


def _look(present_term: Callable[[], Term | None], read: Reading, _options: CallbackOptions) -> list[Observation]:
    if (term := present_term()) is None:
        return []
    counts = dict(read(term))
    named = [tenant for tenant in term.view.quotas.named() if tenant != EVERYBODY_ELSE][:_MOST]
    seen = [_observation(counts.pop(tenant, 0), tenant or "-") for tenant in named]
    return [*seen, _observation(sum(counts.values()), EVERYBODY_ELSE)]


def _observation(count: int, tenant: str) -> Observation:
    return Observation(count, {"kindling.tenant": tenant})

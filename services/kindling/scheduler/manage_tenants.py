"""Setting what tenants may have, and telling what they have."""

from dataclasses import dataclass, replace

from kindling.platform.logging import get_logger
from kindling.scheduler.domain.quotas import Quota, check_tenant, check_weight
from kindling.scheduler.term import Term

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class QuotaChange:
    """What is to be set; none stays as it is."""

    generations: int | None = None
    waiting: int | None = None
    devices: int | None = None
    weight: int | None = None

    def apply(self, quota: Quota) -> Quota:
        """Return a quota as it is after the change."""
        wanted = {name: value for name in self.__slots__ if (value := getattr(self, name)) is not None}
        return replace(quota, **wanted)


@dataclass(frozen=True, slots=True)
class TenantStatus:
    """A tenant, the quota that holds for it, and what it has."""

    tenant: str
    quota: Quota
    has_own_quota: bool
    generations: int
    waiting: int
    devices: int


async def set_tenant(term: Term, tenant: str, change: QuotaChange) -> Quota:
    """Change a tenant's quota and return it; what runs and waits already is left alone.

    Raises InvalidArgumentError TENANT_INVALID or TENANT_WEIGHT_INVALID.
    """
    check_tenant(tenant)
    if change.weight is not None:
        check_weight(change.weight)
    quota = await term.mutations.change_quota(tenant, change.apply)
    log.info("tenant_set", tenant=tenant, quota=quota)
    return quota


async def remove_tenant(term: Term, tenant: str) -> bool:
    """Forget a tenant's own quota; false if it had none. Raises InvalidArgumentError TENANT_INVALID."""
    check_tenant(tenant)
    if term.view.quotas.own(tenant) is None:
        return False
    await term.mutations.remove_quota(tenant)
    log.info("tenant_removed", tenant=tenant)
    return True


def tenant_statuses(term: Term) -> list[TenantStatus]:
    """Return every tenant with quotas of its own or anything running, waiting or started for it, by name."""
    view, lines = term.view, term.planner.lines
    names = {*view.quotas.named(), *view.grants.tenants(), *lines.tenants(), *view.devices.tenants()}
    return [tenant_status(term, name) for name in sorted(names)]


def tenant_status(term: Term, tenant: str) -> TenantStatus:
    """Return what a tenant has and may have."""
    view = term.view
    return TenantStatus(
        tenant=tenant,
        quota=view.quotas.of(tenant),
        has_own_quota=view.quotas.own(tenant) is not None,
        generations=view.grants.in_flight_of(tenant),
        waiting=term.planner.lines.waiting_of(tenant),
        devices=view.devices.count(tenant),
    )

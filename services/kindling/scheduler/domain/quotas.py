"""What each tenant may have at once."""

from collections.abc import Iterable
from dataclasses import dataclass

from kindling.platform.errors import InvalidArgumentError
from kindling.platform.tenant_names import is_tenant

EVERYBODY_ELSE = "*"
MOST_WEIGHT = 1000


@dataclass(frozen=True, slots=True)
class Quota:
    """Bounds, of which 0 is none: generations that run, requests that wait, and instances started on a tenant's behalf.

    A tenant with weight 2 gets two turns for each of one with weight 1.
    """

    generations: int = 0
    waiting: int = 0
    devices: int = 0
    weight: int = 1


@dataclass(frozen=True, slots=True)
class TenantQuota:
    """A tenant's own quota; empty is the default tenant, ``*`` every one that has no quota of its own."""

    tenant: str
    quota: Quota


_UNBOUNDED = Quota()


class Quotas:
    """The quotas that are recorded, and so which holds for whom."""

    def __init__(self, own: Iterable[TenantQuota] = ()) -> None:
        self._own: dict[str, Quota] = {}
        self.become(own)

    def become(self, own: Iterable[TenantQuota]) -> None:
        """Take over what is recorded, whole."""
        self._own = {one.tenant: one.quota for one in own}
        self._look()

    def put(self, one: TenantQuota) -> None:
        """Give a tenant a quota of its own, or another one."""
        self._own[one.tenant] = one.quota
        self._look()

    def remove(self, tenant: str) -> None:
        """Take a tenant's own quota away; one that has none is ignored."""
        self._own.pop(tenant, None)
        self._look()

    def of(self, tenant: str) -> Quota:
        """What holds for a tenant: its own quota, else everybody's, else no bounds."""
        return self._own.get(tenant) or self._others

    def own(self, tenant: str) -> Quota | None:
        """The quota that is a tenant's own, if it has one."""
        return self._own.get(tenant)

    def named(self) -> list[str]:
        """The tenants that have quotas of their own, by name, and ``*``."""
        return sorted(self._own)

    def _look(self) -> None:
        self._others = self._own.get(EVERYBODY_ELSE, _UNBOUNDED)
        self.bound_generations = any(one.generations for one in self._own.values())
        """Whether anybody's generations are bounded."""
        self.bound_starts = self.bound_generations or any(one.devices for one in self._own.values())
        """Whether anybody may not have as many instances started as their requests want."""


def check_tenant(name: str) -> None:
    """Raise InvalidArgumentError TENANT_INVALID unless a quota can be given to whoever is called so."""
    if name and name != EVERYBODY_ELSE and not is_tenant(name):
        raise InvalidArgumentError(
            f"{name[:80]!r} is no tenant's name: give 1 to 64 letters, digits, '.', '_' and '-' the first "
            "a letter or digit, '*' for everybody who has no quotas of their own, or nothing for the default tenant",
            reason="TENANT_INVALID",
            field="tenant",
        )


def check_weight(weight: int) -> None:
    """Raise InvalidArgumentError TENANT_WEIGHT_INVALID if a weight is out of its bounds."""
    if not 1 <= weight <= MOST_WEIGHT:
        raise InvalidArgumentError(
            f"a weight is from 1 to {MOST_WEIGHT}, not {weight}: 1 is one turn like everybody, 2 is two",
            reason="TENANT_WEIGHT_INVALID",
            field="weight",
        )

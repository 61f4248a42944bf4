"""The instances that were started on each tenant's behalf, and the device time that they took."""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Final

from kindling.scheduler.domain.quotas import Quotas
from kindling.scheduler.domain.values import Instance

START_SECONDS: Final = 10.0
"""What a device costs at once, besides the seconds for which it is held: about what a start takes from it."""


class Devices:
    """An instance is its tenant's device from the decision to start it until it is gone, whoever else uses it too.

    By a tenant's tag one sees whose turn it is to get a device: the least one's. It is that of start-time fair queueing
    (Goyal, Vin and Cheng, SIGCOMM 1996): ``S = max(v, F)`` and ``F = S + l / r``, where ``r`` is the tenant's weight,
    ``l`` the cost of a device, and ``v`` the least tag of those who wait or have devices. So while two tenants want
    more than they get, each gets device time by its weight; and who wanted nothing for a while has saved nothing up.
    """

    def __init__(self, quotas: Quotas) -> None:
        self._quotas = quotas
        self._held: dict[str, set[str]] = {}  # by tenant
        self._tags: dict[str, float] = {}
        self._charged_until: dict[str, float] = {}  # those who hold some
        self._now = 0.0

    def pass_time(self, now: float) -> None:
        """It is so late now."""
        self._now = now

    def enter(self, instance: Instance, now: float) -> None:
        """An instance is there; one that is known, or that nobody asked for, changes nothing."""
        self._now, tenant = now, instance.tenant
        if tenant is None or instance.instance_id in self.of(tenant):
            return
        self._charge(tenant, START_SECONDS)
        self._held.setdefault(tenant, set()).add(instance.instance_id)

    def leave(self, instance: Instance) -> None:
        """An instance is gone."""
        tenant = instance.tenant
        if tenant is None or instance.instance_id not in self.of(tenant):
            return
        self._charge(tenant)
        self._held[tenant].remove(instance.instance_id)
        if not self._held[tenant]:
            del self._held[tenant], self._charged_until[tenant]

    def of(self, tenant: str) -> AbstractSet[str]:
        """The instances that are a tenant's devices."""
        return self._held.get(tenant, frozenset())

    def count(self, tenant: str) -> int:
        """How many devices a tenant has."""
        return len(self.of(tenant))

    def tenants(self) -> Iterable[str]:
        """The tenants that have devices."""
        return self._held.keys()

    def tag(self, tenant: str, more: int = 0) -> float:
        """A tenant's tag as of now, and if it had so many devices ``more``: seconds for its weight."""
        held = self.count(tenant)
        held_seconds = held * (self._now - self._charged_until[tenant]) if held else 0.0
        return self._tags.get(tenant, 0.0) + (held_seconds + more * START_SECONDS) / self._quotas.of(tenant).weight

    def wake(self, tenant: str, waiting: Iterable[str]) -> None:
        """A tenant of whom nobody waited asks again, beside those who are ``waiting``."""
        if tenant in self._held:
            return
        active = {*self._held, *waiting} - {tenant}
        virtual = min(map(self.tag, active), default=None)
        tags = self._tags
        self._tags = (
            {} if virtual is None else {name: tags[name] for name in tags if name in active or tags[name] > virtual}
        )
        self._tags[tenant] = max(self._tags.get(tenant, 0.0), virtual or 0.0)

    def _charge(self, tenant: str, seconds: float = 0.0) -> None:
        """Enter what a tenant has had up to now, and ``seconds`` besides."""
        self._tags[tenant] = self.tag(tenant) + seconds / self._quotas.of(tenant).weight
        self._charged_until[tenant] = self._now

    def check_integrity(self, instances: Iterable[Instance]) -> None:
        """Raise AssertionError if these are not all the instances."""
        expected = {(one.tenant, one.instance_id) for one in instances if one.tenant is not None}
        assert {(tenant, name) for tenant, names in self._held.items() for name in names} == expected
        assert self._charged_until.keys() == self._held.keys()

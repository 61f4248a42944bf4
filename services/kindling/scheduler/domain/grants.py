"""Which generations an instance has on its hands: those granted and not yet released, and those its worker reports."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

_NOBODYS: Mapping[str, str] = {}


@dataclass(slots=True)
class _Account:
    granted: set[str] = field(default_factory=set)
    reported: frozenset[str] = frozenset()
    # Released here, yet in the worker's last report, which is older: they take no room any more.
    ended: set[str] = field(default_factory=set)
    # Looks for another place, and runs here as long as the worker reports it: it takes room, and is nobody's.
    left: set[str] = field(default_factory=set)
    idle_since: float | None = None

    def in_flight(self) -> int:
        return len(self.granted) + len(self.reported - self.granted - self.ended)

    def running(self) -> frozenset[str]:
        return (self.reported - self.ended) | self.granted


class GrantLedger:
    """Counts the generations in flight per instance, and those that have grants per tenant.

    What a worker reports and nobody here has granted, an earlier leader did: it has a grant from then on.
    A grant ends when it is released, when a worker that had reported its generation reports it no more, or
    ``ttl_seconds`` after it was given if the worker never reported it. ``changed`` is told of each instance of which
    something has changed, ``ended`` where a generation ended and how many seconds after its grant.
    """

    def __init__(
        self,
        ttl_seconds: float,
        changed: Callable[[str], None] = lambda _: None,
        ended: Callable[[str, float], None] = lambda _name, _seconds: None,
    ) -> None:
        self._ttl_seconds = ttl_seconds
        self._changed = changed
        self._ended = ended
        self._began: dict[str, float] = {}  # by generation
        self._tenants: dict[str, str] = {}  # by generation
        self._in_flight_of: Counter[str] = Counter()  # by tenant
        self._accounts: dict[str, _Account] = {}
        self._instance_of: dict[str, str] = {}
        self._unseen: dict[str, float] = {}  # oldest first: the time to live is the same for all

    def open(self, instance_id: str, now: float) -> None:
        """Begin to count an instance, idle since now; one that is counted already stays as it is."""
        self._accounts.setdefault(instance_id, _Account(idle_since=now))

    def close(self, instance_id: str) -> None:
        """Forget an instance and every grant on it."""
        account = self._accounts.pop(instance_id, None)
        for generation_id in account.granted if account else ():
            self._unseen.pop(generation_id, None)
            self._forget(generation_id)
            del self._instance_of[generation_id]

    def touch(self, instance_id: str, now: float) -> None:
        """Count an idle instance's time without work from now."""
        account = self._accounts[instance_id]
        if account.idle_since is not None:
            account.idle_since = now
        self._changed(instance_id)

    def grant(self, generation_id: str, instance_id: str, now: float, tenant: str = "") -> None:
        """Give a tenant's generation room in an instance, once."""
        if generation_id in self._instance_of:
            return
        self._instance_of[generation_id] = instance_id
        self._unseen[generation_id] = now
        self._began.setdefault(generation_id, now)
        self._belong(generation_id, tenant)
        account = self._accounts[instance_id]
        account.granted.add(generation_id)
        account.ended.discard(generation_id)
        account.left.discard(generation_id)
        account.idle_since = None
        self._changed(instance_id)

    def release(self, generation_id: str, now: float) -> bool:
        """Take a generation's room back; false if there was no such grant."""
        instance_id = self._instance_of.get(generation_id)
        if instance_id is None:
            return False
        self._tell_end(generation_id, instance_id, now)
        self._take_back(generation_id, instance_id, now)
        return True

    def _tell_end(self, generation_id: str, instance_id: str, now: float) -> None:
        if (began := self._began.get(generation_id)) is not None:
            self._ended(instance_id, now - began)

    def _take_back(self, generation_id: str, instance_id: str, now: float) -> None:
        del self._instance_of[generation_id]
        self._forget(generation_id)
        self._unseen.pop(generation_id, None)
        account = self._accounts[instance_id]
        account.granted.discard(generation_id)
        account.ended.add(generation_id)
        self._settle(instance_id, now)

    def leave(self, generation_id: str, now: float) -> None:
        """A generation looks for another place: it has no grant, and takes room as long as its worker reports it."""
        instance_id = self._instance_of.pop(generation_id, None)
        if instance_id is not None:
            self._unseen.pop(generation_id, None)
            self._forget(generation_id)
            account = self._accounts[instance_id]
            account.granted.discard(generation_id)
            account.left.add(generation_id)
            self._settle(instance_id, now)

    def move(self, generation_id: str, source_id: str, target_id: str, now: float) -> None:
        """A generation goes on in another instance: it takes room there from now on, and none where it was.

        One that has ended meanwhile, or was granted a third place, is left as it is.
        """
        source = self._accounts[source_id]
        self._accounts[target_id].ended.discard(generation_id)  # it may have been there before
        self._settle(target_id, now)
        place = self._instance_of.get(generation_id, source_id)
        if generation_id in source.ended or place not in (source_id, target_id):
            return
        if place == source_id:
            self._change_place(generation_id, source_id, target_id, now)
        source.ended.add(generation_id)
        self._settle(source_id, now)

    def _change_place(self, generation_id: str, source_id: str, target_id: str, now: float) -> None:
        began, tenant = self._began.get(generation_id, now), self._tenants.get(generation_id, "")
        if generation_id in self._instance_of:
            self._take_back(generation_id, source_id, now)
        self._began[generation_id] = began
        self.grant(generation_id, target_id, now, tenant)
        if generation_id in self._accounts[target_id].reported:
            self._unseen.pop(generation_id)

    def report(
        self, instance_id: str, generation_ids: frozenset[str], now: float, tenants: Mapping[str, str] = _NOBODYS
    ) -> None:
        """Take over what the instance's worker says it runs; what is not in ``tenants`` is the default one's."""
        account = self._accounts[instance_id]
        for generation_id in (account.granted - generation_ids) - self._unseen.keys():
            self._tell_end(generation_id, instance_id, now)
            self._forget(generation_id)
            account.granted.discard(generation_id)
            del self._instance_of[generation_id]
        for generation_id in account.granted & generation_ids:
            self._unseen.pop(generation_id, None)
        account.left -= account.reported - generation_ids
        account.reported = generation_ids
        account.ended &= generation_ids
        self._adopt(instance_id, account, tenants)
        self._settle(instance_id, now)

    def _adopt(self, instance_id: str, account: _Account, tenants: Mapping[str, str]) -> None:
        """Grant what runs without a grant of ours; whose it is may be news of what has moved."""
        for generation_id in account.reported - account.granted - account.ended - account.left:
            if generation_id not in self._instance_of:
                self._instance_of[generation_id] = instance_id
                account.granted.add(generation_id)
                self._belong(generation_id, tenants.get(generation_id, ""))
        for generation_id in account.granted & tenants.keys():
            if not self._tenants[generation_id]:
                self._disown(generation_id)
                self._belong(generation_id, tenants[generation_id])

    def _belong(self, generation_id: str, tenant: str) -> None:
        self._tenants[generation_id] = tenant
        self._in_flight_of[tenant] += 1

    def _disown(self, generation_id: str) -> None:
        tenant = self._tenants.pop(generation_id)
        self._in_flight_of[tenant] -= 1
        if not self._in_flight_of[tenant]:
            del self._in_flight_of[tenant]

    def expire(self, now: float) -> list[str]:
        """Take back the grants whose generation no worker has reported in time; returns them."""
        expired = []
        for generation_id, granted_at in self._unseen.items():
            if granted_at + self._ttl_seconds > now:
                break
            expired.append(generation_id)
        for generation_id in expired:
            instance_id = self._instance_of[generation_id]
            self._take_back(generation_id, instance_id, now)
            self._accounts[instance_id].ended.discard(generation_id)  # should it turn up after all, it does take room
        return expired

    def next_expiry(self) -> float | None:
        """When :meth:`expire` has something to do next."""
        oldest = next(iter(self._unseen.values()), None)
        return None if oldest is None else oldest + self._ttl_seconds

    def instance_of(self, generation_id: str) -> str | None:
        """The instance on which a generation has a grant."""
        return self._instance_of.get(generation_id)

    def in_flight(self, instance_id: str) -> int:
        """Generations granted or running on an instance, each counted once."""
        return self._accounts[instance_id].in_flight()

    def running(self, instance_id: str) -> frozenset[str]:
        """Those generations."""
        return self._accounts[instance_id].running()

    def in_flight_of(self, tenant: str) -> int:
        """Generations of a tenant that have a grant."""
        return self._in_flight_of[tenant]

    def tenants(self) -> Mapping[str, int]:
        """The tenants whose generations have grants, and how many."""
        return self._in_flight_of

    def began(self, instance_id: str) -> list[float] | None:
        """When each of an instance's generations was granted first; none if that is not known of all of them."""
        account = self._accounts[instance_id]
        if account.reported - account.granted - account.ended or not account.granted <= self._began.keys():
            return None
        return [self._began[generation_id] for generation_id in account.granted]

    def has_arrived(self, instance_id: str) -> bool:
        """Whether an instance has generations that its worker has told of, as far as they are not over."""
        account = self._accounts[instance_id]
        return not account.reported <= account.ended

    def idle_since(self, instance_id: str) -> float | None:
        """Since when an instance has nothing to do; none while it has."""
        return self._accounts[instance_id].idle_since

    def _forget(self, generation_id: str) -> None:
        """A generation's grant is over."""
        self._disown(generation_id)
        self._began.pop(generation_id, None)

    def _settle(self, instance_id: str, now: float) -> None:
        account = self._accounts[instance_id]
        if account.in_flight():
            account.idle_since = None
        elif account.idle_since is None:
            account.idle_since = now
        self._changed(instance_id)

"""Who gets the next device when models compete: the tenant that has had the least, then the longest wait."""

import heapq
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from kindling.scheduler.domain import scaling
from kindling.scheduler.domain.lines import WaitingLines
from kindling.scheduler.domain.values import Instance, InstanceState, Model, Request
from kindling.scheduler.domain.view import ClusterView

_Rank = tuple[bool, float, float, str]


@dataclass(frozen=True, slots=True)
class Bid:
    """A model that may want one more instance, on behalf of ``request``, or of nobody to keep its minimum.

    ``queued`` wait for it that may have one started; the plan counts on ``coming`` slots for it already.
    """

    model: Model
    request: Request | None
    queued: int
    coming: int


class Contest:
    """The bids of one plan, one slot at a time. Tenants that may have no more devices do not bid, unless one of their
    own can go for it."""

    def __init__(self, view: ClusterView, lines: WaitingLines, models: Iterable[Model]) -> None:
        self._view = view
        self._lines = lines
        self._coming: Counter[str] = Counter()  # by model
        self._promised: Counter[str] = Counter()  # slots that become free, by the tenant that they are for
        self._exchanged: Counter[str] = Counter()  # own devices that go for others, by tenant
        self._tags: dict[str, float] = {}  # those that were looked at since the last slot was given
        self._given = 0
        self._bids = [seen for model in models if (seen := self._look(model)) is not None]
        heapq.heapify(self._bids)

    def next(self) -> Bid | None:
        """Take the bid that comes first; none if there are no more."""
        while self._bids:
            _, given, bid = heapq.heappop(self._bids)
            if given == self._given:
                return bid
            self._enter(bid.model)  # its tenant may have been given something since
        return None

    def again(self, model: Model) -> None:
        """A bid was served; its model may want more."""
        self._given += 1
        self._tags.clear()
        self._enter(model)

    def _enter(self, model: Model) -> None:
        if (seen := self._look(model)) is not None:
            heapq.heappush(self._bids, seen)

    def promise(self, bid: Bid) -> None:
        """A slot becomes free for a bid."""
        self._coming[bid.model.name] += 1
        if bid.request is not None:
            self._promised[bid.request.tenant] += 1

    # Tenants that have all the devices they may

    def must_exchange(self, bid: Bid) -> bool:
        """Whether one of its tenant's own devices has to go first."""
        return bid.request is not None and not self._has_devices_left(bid.request.tenant)

    def exchange(self, bid: Bid) -> Instance | None:
        """Count on a device of the tenant's own to go for a bid; returns it if it has to be told to."""
        assert bid.request is not None
        tenant = bid.request.tenant
        self._coming[bid.model.name] += 1
        self._exchanged[tenant] += 1
        if len(self._leaving(tenant)) >= self._exchanged[tenant]:
            return None
        return min(self._idle(tenant), key=lambda one: (self._idle_since(one), one.instance_id))

    def _has_devices_left(self, tenant: str) -> bool:
        most = self._view.quotas.of(tenant).devices
        return not most or self._view.devices.count(tenant) + self._promised[tenant] < most

    def _has_one_to_give(self, tenant: str) -> bool:
        return len(self._leaving(tenant)) + len(self._idle(tenant)) > self._exchanged[tenant]

    def _leaving(self, tenant: str) -> list[Instance]:
        own = self._devices(tenant)
        return [one for one in own if one.state is InstanceState.STOPPING and not self._view.is_busy(one)]

    def _idle(self, tenant: str) -> list[Instance]:
        own, view = self._devices(tenant), self._view
        return [one for one in own if one.worker_id in view.startable and scaling.is_spare(view, one)]

    def _idle_since(self, instance: Instance) -> float:
        idle_since = self._view.grants.idle_since(instance.instance_id)
        assert idle_since is not None, "who is spare is idle"
        return idle_since

    def _devices(self, tenant: str) -> list[Instance]:
        return [self._view.instances[name] for name in self._view.devices.of(tenant)]

    # Who comes first

    def _look(self, model: Model) -> tuple[_Rank, int, Bid] | None:
        """A model's bid and where it stands; none if nobody may have it started."""
        name, coming = model.name, self._coming[model.name]
        heads = self._lines.heads(name)
        if self._view.quotas.bound_starts:
            heads = {tenant: head for tenant, head in heads.items() if self._may_have_one(tenant)}
        if heads:
            first = min(heads.values(), key=self._standing)
            tag, arrived_at, _ = self._standing(first)
            return (
                (False, tag, arrived_at, name),
                self._given,
                Bid(model, first, self._lines.ready(name, heads), coming),
            )
        if model.settings.min_instances:
            return (True, 0.0, 0.0, name), self._given, Bid(model, None, 0, coming)
        return None

    def _standing(self, request: Request) -> tuple[float, float, str]:
        return self._tag(request.tenant), request.arrived_at, request.generation_id

    def _may_have_one(self, tenant: str) -> bool:
        return self._can_use_one(tenant) and (self._has_devices_left(tenant) or self._has_one_to_give(tenant))

    def _can_use_one(self, tenant: str) -> bool:
        """Whether a tenant may have more generations than there are devices starting for it."""
        most = self._view.quotas.of(tenant).generations
        if not most:
            return True
        starting = sum(one.state is InstanceState.STARTING for one in self._devices(tenant))
        return self._view.grants.in_flight_of(tenant) + starting + self._promised[tenant] < most

    def _tag(self, tenant: str) -> float:
        if tenant not in self._tags:
            self._tags[tenant] = self._view.devices.tag(tenant, more=self._promised[tenant])
        return self._tags[tenant]

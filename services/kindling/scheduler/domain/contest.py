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
        self._ranks = [(rank, model) for model in models if (rank := self._rank(model)) is not None]
        heapq.heapify(self._ranks)

    def next(self) -> Bid | None:
        """Take the bid that comes first; none if there are no more."""
        while self._ranks:
            rank, model = heapq.heappop(self._ranks)
            now = self._rank(model)
            if now is not None and now > rank and self._ranks and now > self._ranks[0][0]:
                heapq.heappush(self._ranks, (now, model))  # its tenant has been given something since
            elif now is not None:
                return self._bid(model)
        return None

    def again(self, model: Model) -> None:
        """A bid was served; its model may want more."""
        if (rank := self._rank(model)) is not None:
            heapq.heappush(self._ranks, (rank, model))

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

    def _rank(self, model: Model) -> _Rank | None:
        """Where a model stands; none if nobody may have it started."""
        if (request := self._first(model)) is not None:
            return False, self._tag(request.tenant), request.arrived_at, model.name
        return (True, 0.0, 0.0, model.name) if model.settings.min_instances else None

    def _bid(self, model: Model) -> Bid:
        queued = self._lines.ready(model.name, self._able(model.name))
        return Bid(model, self._first(model), queued, self._coming[model.name])

    def _first(self, model: Model) -> Request | None:
        """On whose behalf a model would be started."""
        heads = self._lines.heads(model.name)
        able = (heads[tenant] for tenant in heads if self._may_have_one(tenant))
        return min(able, key=lambda one: (self._tag(one.tenant), one.arrived_at, one.generation_id), default=None)

    def _able(self, name: str) -> list[str]:
        return [tenant for tenant in self._lines.heads(name) if self._may_have_one(tenant)]

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
        return self._view.devices.tag(tenant, more=self._promised[tenant])

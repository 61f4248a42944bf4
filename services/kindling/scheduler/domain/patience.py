"""Who has waited long enough: for a place, for any worker at all, or for a place other than those avoided."""

from collections.abc import Iterator

from kindling.platform.errors import KindlingError
from kindling.scheduler.domain.lines import WaitingLines
from kindling.scheduler.domain.plans import Limits
from kindling.scheduler.domain.records import ClusterRecords
from kindling.scheduler.domain.refusals import held_back, no_workers, queue_timeout, unknown_model
from kindling.scheduler.domain.values import Model, Request

_NAMED = 3  # models that are kept ready, in a refusal


class Patience:
    """Watches the lines; says who is to be refused, and why, and when it has to be asked next."""

    def __init__(self, records: ClusterRecords, lines: WaitingLines, limits: Limits) -> None:
        self._records = records
        self._lines = lines
        self._limits = limits
        self._without_workers_since: float | None = None

    def watch_workers(self, now: float) -> None:
        """Note whether there is any worker that can be given work."""
        if self._records.startable:
            self._without_workers_since = None
        elif self._without_workers_since is None:
            self._without_workers_since = now

    def overdue(self, now: float) -> Iterator[tuple[Request, KindlingError]]:
        """Who has waited for too long, or for a model that is gone."""
        for name in self._lines.names():
            model = self._records.models.get(name)
            for request in self._lines.waiting(name):
                if (error := self._refusal(request, model, now)) is None:
                    break  # nobody else in this line has waited longer
                yield request, error

    def deadlines(self, now: float) -> Iterator[float | None]:
        """When somebody's patience is over next, of each kind."""
        for name in self._lines.names():
            head, model = self._lines.head(name), self._records.models.get(name)
            if head is not None and model is not None:
                yield head.arrived_at + model.settings.max_queue_wait_seconds
                yield self._workers_missed(head)
        choosy = (request.arrived_at + self._limits.avoid_seconds for request in self._lines.choosy())
        yield min((end for end in choosy if end > now), default=None)

    def _refusal(self, request: Request, model: Model | None, now: float) -> KindlingError | None:
        if model is None:
            return unknown_model(request.model)
        if request.arrived_at + model.settings.max_queue_wait_seconds <= now:
            return self._timeout(request.tenant, model)
        return no_workers() if self._workers_missed(request) <= now else None

    def _timeout(self, tenant: str, model: Model) -> KindlingError:
        quota = self._records.quotas.of(tenant)
        if quota.generations and self._records.grants.in_flight_of(tenant) >= quota.generations:
            return held_back(model, tenant, "generations", quota.generations)
        if quota.devices and self._records.devices.count(tenant) >= quota.devices:
            return held_back(model, tenant, "devices", quota.devices)
        return queue_timeout(model, sorted(self._records.minimal - {model.name})[:_NAMED])

    def _workers_missed(self, request: Request) -> float:
        """When a request has waited long enough for any worker at all."""
        if self._without_workers_since is None:
            return float("inf")
        return max(request.arrived_at, self._without_workers_since) + self._limits.no_workers_wait_seconds

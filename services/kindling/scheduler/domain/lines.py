"""Requests that wait for room: one line per model, served by the tenants' turns, first come, first served in each."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

from kindling.scheduler.domain.quotas import Quotas
from kindling.scheduler.domain.turns import Turns
from kindling.scheduler.domain.values import Request


class WaitingLines:
    """The requests held, by model; ``in_flight`` tells how many generations of a tenant run."""

    def __init__(self, in_flight: Callable[[str], int], quotas: Quotas | None = None) -> None:
        self._in_flight = in_flight
        self._quotas = quotas or Quotas()
        self._lines: dict[str, dict[str, Request]] = {}
        self._by_tenant: dict[str, dict[str, dict[str, Request]]] = {}  # by model, then by tenant
        self._waiting_of: Counter[str] = Counter()  # by tenant, over all models
        self._turns = Turns(in_flight, self._quotas)
        self._choosy: dict[str, Request] = {}  # those with somebody to avoid, by generation

    def join(self, request: Request) -> int:
        """Go to the end of the model's line; returns how many are in it."""
        line = self._lines.setdefault(request.model, {})
        ahead = len(line)
        if (earlier := line.get(request.generation_id)) is not None:
            self._choosy.pop(earlier.generation_id, None)
            if earlier.tenant != request.tenant:
                self._leave_own(earlier)
        if earlier is None or earlier.tenant != request.tenant:
            self._waiting_of[request.tenant] += 1
        line[request.generation_id] = request
        self._by_tenant.setdefault(request.model, {}).setdefault(request.tenant, {})[request.generation_id] = request
        if request.avoid:
            self._choosy[request.generation_id] = request
        return ahead

    def leave(self, request: Request) -> None:
        """Leave the line, whether at its head or not; one who is not in it is ignored."""
        line = self._lines.get(request.model, {})
        if line.get(request.generation_id) is request:
            del line[request.generation_id]
            self._choosy.pop(request.generation_id, None)
            self._leave_own(request)
        if not line:
            self._lines.pop(request.model, None)

    def serve(self, request: Request) -> None:
        """Leave the line as its tenant's turn has come."""
        self._turns.served(request.tenant)
        self.leave(request)

    def next(self, model: str) -> Request | None:
        """Whose turn it is among those who wait for a model."""
        return next(self.in_turn(model), None)

    def in_turn(self, model: str) -> Iterator[Request]:
        """Everyone who waits for a model and may run, in the order in which they are served; to be dropped as
        ``waiting`` is."""
        tenants = self._by_tenant.get(model, {})
        if len(tenants) == 1 and not self._quotas.bound_generations:
            return self.waiting(model)
        return self._turns.order({tenant: own.values() for tenant, own in tenants.items()})

    def ready(self, model: str, tenants: Iterable[str] | None = None) -> int:
        """How many of those who wait for a model may run at once, as far as their tenants' quotas go; of these tenants,
        or of all."""
        lines = self._by_tenant.get(model, {})
        if tenants is None and not self._quotas.bound_generations:
            return self.length(model)
        return sum(self._ready_of(tenant, len(lines[tenant])) for tenant in (lines if tenants is None else tenants))

    def _ready_of(self, tenant: str, waiting: int) -> int:
        most = self._quotas.of(tenant).generations
        return max(0, min(waiting, most - self._in_flight(tenant))) if most else waiting

    def heads(self, model: str) -> dict[str, Request]:
        """Who has waited longest for a model, by tenant."""
        return {tenant: next(iter(own.values())) for tenant, own in self._by_tenant.get(model, {}).items()}

    def waiting_of(self, tenant: str) -> int:
        """How many requests of a tenant wait, over all models."""
        return self._waiting_of[tenant]

    def tenants(self) -> Mapping[str, int]:
        """The tenants of whom somebody waits, and how many."""
        return self._waiting_of

    def holds(self, request: Request) -> bool:
        """Whether the generation waits for the model already, as the same tenant's."""
        earlier = self._lines.get(request.model, {}).get(request.generation_id)
        return earlier is not None and earlier.tenant == request.tenant

    def is_full(self, request: Request, limit: int) -> bool:
        """Whether ``limit`` or more wait for its model, and its tenant's fair part of that many are its own."""
        tenants = self._by_tenant.get(request.model, {})
        sharing = len(tenants.keys() | {request.tenant})
        return self.length(request.model) >= limit and len(tenants.get(request.tenant, ())) >= limit // sharing

    def head(self, model: str) -> Request | None:
        """Who has waited longest for a model."""
        return next(iter(self._lines.get(model, {}).values()), None)

    def line(self, model: str) -> list[Request]:
        """Everyone who waits for a model, longest first."""
        return list(self._lines.get(model, {}).values())

    def waiting(self, model: str) -> Iterator[Request]:
        """Everyone who waits for a model, longest first; to be dropped before anybody joins or leaves."""
        return iter(self._lines.get(model, {}).values())

    def length(self, model: str) -> int:
        """How many wait for a model."""
        return len(self._lines.get(model, {}))

    def names(self) -> Iterable[str]:
        """The models that somebody waits for, in no order."""
        return self._lines.keys()

    def models(self) -> list[str]:
        """The models that somebody waits for, the longest wait first."""
        return sorted(self._lines, key=lambda name: (next(iter(self._lines[name].values())).arrived_at, name))

    def choosy(self) -> Iterable[Request]:
        """Those who wait for an instance that is not one of some."""
        return self._choosy.values()

    def _leave_own(self, request: Request) -> None:
        tenants = self._by_tenant[request.model]
        del tenants[request.tenant][request.generation_id]
        self._waiting_of[request.tenant] -= 1
        if not self._waiting_of[request.tenant]:
            del self._waiting_of[request.tenant]
        if not tenants[request.tenant]:
            del tenants[request.tenant]
        if not tenants:
            del self._by_tenant[request.model]

    def __iter__(self) -> Iterator[Request]:
        for line in self._lines.values():
            yield from line.values()

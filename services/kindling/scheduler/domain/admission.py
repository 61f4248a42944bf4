"""Whether a tenant may have one more generation run, or wait."""

from kindling.scheduler.domain.lines import WaitingLines
from kindling.scheduler.domain.refusals import too_many_waiting
from kindling.scheduler.domain.values import Request
from kindling.scheduler.domain.view import ClusterView


class Admission:
    """Holds tenants to their quotas; ``knows_all`` once every worker has told whose generations it runs."""

    def __init__(self, view: ClusterView, lines: WaitingLines) -> None:
        self._view = view
        self._lines = lines
        self.knows_all = False

    def may_run(self, tenant: str) -> bool:
        """Whether a tenant may have one more generation; one with a bound may not before all that it has are known."""
        most = self._view.quotas.of(tenant).generations
        return not most or (self.knows_all and self._view.grants.in_flight_of(tenant) < most)

    def enter(self, request: Request, now: float) -> int:
        """Put a request in line; returns how many are ahead.

        Raises TENANT_QUOTA_EXCEEDED, unless it is there already or had a place before.
        """
        tenant, waiting = request.tenant, self._lines.waiting_of(request.tenant)
        most = self._view.quotas.of(tenant).waiting
        if most and waiting >= most and not request.avoid and not self._lines.holds(request):
            raise too_many_waiting(tenant, most)
        if not waiting:
            self._view.devices.pass_time(now)
            self._view.devices.wake(tenant, self._lines.tenants())
        return self._lines.join(request)

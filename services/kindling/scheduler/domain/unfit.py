"""Workers that are not to be given a model."""

from kindling.scheduler.domain.troubles import Troubles
from kindling.scheduler.domain.values import Model
from kindling.scheduler.domain.view import ClusterView


def unfit(view: ClusterView, troubles: Troubles, model: Model, now: float) -> frozenset[str]:
    """Return the workers whose device is too small for a model, or where its start has failed a short while ago."""
    small, failed = view.sizes.too_small(model.device_bytes), troubles.excluded(model.name, now)
    return small | failed if small and failed else small or failed

"""How full and how fast this node's tiers are, as metrics."""

from collections.abc import Callable
from functools import partial

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Meter, Observation

from kindling.storage.domain.tier import TierSnapshot

Snapshots = Callable[[], tuple[TierSnapshot, ...]]
_METRICS = (
    ("kindling.tier.used", "By", "Bytes of checkpoints that a tier holds.", "used_bytes"),
    ("kindling.tier.pinned", "By", "Bytes of them that are in use.", "pinned_bytes"),
    ("kindling.tier.capacity", "By", "Bytes that a tier can hold; 0 if it has no bound of its own.", "capacity_bytes"),
    ("kindling.tier.bandwidth", "By/s", "Bytes per second that a tier was last read at.", "bandwidth_bytes_per_second"),
)


def watch_tiers(snapshots: Snapshots, meter: Meter | None = None) -> None:
    """Have the process's metrics, or those of ``meter``, say what ``snapshots`` does."""
    meter = meter or metrics.get_meter(__name__)
    for name, unit, description, field in _METRICS:
        meter.create_observable_gauge(name, [partial(_look, snapshots, field)], unit, description)


def _look(snapshots: Snapshots, field: str, _options: CallbackOptions) -> list[Observation]:
    return [Observation(getattr(one, field), {"tier": one.tier.name}) for one in snapshots()]

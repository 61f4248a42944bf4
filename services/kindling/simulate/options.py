"""What one run of the simulator is to do."""

from dataclasses import dataclass
from pathlib import Path

from kindling.simulate.mechanisms import ALL_MECHANISMS, Mechanism
from kindling.simulate.policies import PolicyName


@dataclass(frozen=True, slots=True)
class SimulateOptions:
    """Names are those of the catalogues.

    ``cv`` of 0 leaves the trace's arrivals as they are, and empty ``lengths`` its lengths. With a ``rate``, requests
    per second of all models, the trace's own is left aside; a ``duration_seconds`` of 0 is as long as the trace, else
    its beginning. Each of ``seeds`` draws a workload of its own, the same for all ``policies``. ``mechanisms`` are
    Kindling's. What was ``measured``, if anything, stands for ``model`` and ``node``.
    """

    policies: tuple[PolicyName, ...] = tuple(PolicyName)
    mechanisms: frozenset[Mechanism] = ALL_MECHANISMS
    trace: str = "azure-conv"
    models: int = 32
    model: str = "opt-6.7b"
    nodes: int = 4
    node: str = "paper-a40"
    measured: Path | None = None
    cv: float = 0.0
    rate: float = 0.0
    duration_seconds: float = 0.0
    zipf: float = 0.0
    lengths: str = ""
    seeds: int = 5
    keep_alive_seconds: float = 300.0
    concurrency_target: int = 8
    price_per_device_hour: float = 2.0

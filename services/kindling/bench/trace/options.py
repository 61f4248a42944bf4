"""What one run of the benchmark is to do."""

from dataclasses import dataclass

from kindling.bench.engine.workload import SHAPE
from kindling.bench.model import Shape

MODEL = "bench"


@dataclass(frozen=True, slots=True)
class TraceOptions:
    """Two workers that differ in tracing alone are started ``starts`` times, and measured ``rounds`` times each time.

    ``streams`` generations run at once and have ``new_tokens`` tokens each; the first is no decode step.
    """

    starts: int = 3
    rounds: int = 20
    streams: int = 8
    new_tokens: int = 32
    shape: Shape = SHAPE

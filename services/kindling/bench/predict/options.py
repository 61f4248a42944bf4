"""What one run of the benchmark is to do."""

from dataclasses import dataclass
from typing import Final

from kindling.bench.model import Shape

CHUNK_BYTES: Final = 1 << 20
CONTEXT_TOKENS: Final = 512
SHAPE: Final = Shape(layers=4, heads=4, kv_heads=2, vocabulary=12_000, context_length=CONTEXT_TOKENS)
"""About 36 MB of float32: a token takes milliseconds, so that starts are what takes time."""
TINY: Final = Shape(layers=2, heads=1, kv_heads=1, vocabulary=4_000, context_length=CONTEXT_TOKENS)


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """How much of everything.

    The SSD is throttled to bring a model in ``load_seconds``; DRAM holds ``pool_models`` of them. Requests come at
    ``rate`` per second for ``duration_seconds``, in gaps with a coefficient of variation of ``cv``. Each of ``seeds``
    draws a workload of its own, which a cluster of its own gets.
    """

    shape: Shape = SHAPE
    models: int = 6
    workers: int = 2
    pool_models: float = 3.5
    load_seconds: float = 2.0
    keep_alive_seconds: float = 2.0
    rate: float = 1.0
    duration_seconds: float = 90.0
    cv: float = 4.0
    zipf: float = 0.0
    seeds: tuple[int, ...] = (1,)
    repeats: int = 5

    @property
    def names(self) -> tuple[str, ...]:
        """The models' names."""
        return tuple(f"bench-{number}" for number in range(self.models))


SMOKE = PredictOptions(
    shape=TINY,
    models=3,
    pool_models=2.5,
    load_seconds=0.2,
    keep_alive_seconds=0.5,
    rate=4.0,
    duration_seconds=3.0,
    cv=1.0,
    repeats=1,
)
"""A run of seconds that goes every way and whose figures mean nothing."""

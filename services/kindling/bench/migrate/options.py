"""What one run of the benchmark is to do."""

from dataclasses import dataclass
from typing import Final

from kindling.bench.model import Shape

MODEL: Final = "bench"
SMALL: Final = Shape(layers=8, heads=8, kv_heads=2)
"""About 57 million parameters; keys and values have a quarter of the heads, as in today's models."""
TINY: Final = Shape(layers=2, heads=1, kv_heads=1, vocabulary=512)


@dataclass(frozen=True, slots=True)
class MigrateOptions:
    """How much of everything.

    ``head_tokens`` are read before something happens to a stream, ``tail_tokens`` afterwards. Streams under load are
    given up for new ones when they have ``stream_tokens``. ``recomputed`` generations of each type of number are
    computed anew in the middle, and ``recomputed_tokens`` tokens after that compared.
    """

    migrations: int = 100
    prompt_lengths: tuple[int, ...] = (64, 256, 1024, 4096)
    shape: Shape = SMALL
    repeats: int = 3
    streams: int = 4
    load_prompt: int = 64
    stream_tokens: int = 480
    head_tokens: int = 32
    tail_tokens: int = 16
    failovers: int = 6
    generations: int = 1000
    recomputed: int = 32
    recomputed_tokens: int = 64

    @property
    def bystander_prompt(self) -> int:
        """Prompt of the streams whose gaps are compared: long, so that rounds take seconds, but not the longest."""
        lengths = sorted(self.prompt_lengths)
        return lengths[-2] if len(lengths) > 1 else lengths[-1]

    @property
    def failover_prompt(self) -> int:
        """Prompt of the streams whose workers are killed: short, as what is computed anew is taken off again."""
        return min(self.prompt_lengths)


SMOKE = MigrateOptions(
    migrations=4,
    prompt_lengths=(16, 64),
    shape=TINY,
    repeats=1,
    streams=2,
    load_prompt=16,
    failovers=1,
    generations=20,
    recomputed=4,
    recomputed_tokens=16,
)
"""A run of seconds that goes every way and whose figures mean nothing."""

"""What one run of the benchmark is to do."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Every way is measured ``rounds`` times, in turns, with each of ``loads`` requests at once."""

    rounds: int = 3
    loads: tuple[int, ...] = (1, 8, 32)
    new_tokens: int = 64

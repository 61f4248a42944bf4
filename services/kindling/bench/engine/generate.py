"""What every way of generating looks like to the benchmark."""

from typing import Protocol

from kindling.bench.engine.workload import Prompts


class Generate(Protocol):
    """Continues all prompts, which are there at once, and returns when the last one is done."""

    def __call__(self, prompts: Prompts, new_tokens: int, /) -> int:
        """Generate ``new_tokens`` greedy tokens after each prompt; return how many there came in all."""
        ...

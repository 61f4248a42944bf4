"""The model that everybody runs, and the prompts that everybody continues."""

import random
from typing import Final

from kindling.bench.model import Shape

SHORTEST_PROMPT, LONGEST_PROMPT = 16, 128
SHAPE: Final = Shape(layers=8, heads=8, kv_heads=8, context_length=2048)
"""About 60 million parameters."""
Prompts = list[list[int]]


def prompts_of(requests: int, number: int) -> Prompts:
    """Return the prompts of pass ``number``: lengths spread evenly over the range, in a random order, no two alike."""
    chance = random.Random(1000 * requests + number)
    step = (LONGEST_PROMPT - SHORTEST_PROMPT) / requests
    lengths = [round(SHORTEST_PROMPT + step * (index + 0.5)) for index in range(requests)]
    chance.shuffle(lengths)
    return [[chance.randrange(SHAPE.vocabulary) for _ in range(length)] for length in lengths]

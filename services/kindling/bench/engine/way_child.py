"""Measures one way of generating with every load; a process of its own."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kindling.bench.child import answer_parent
from kindling.bench.engine.generate import Generate
from kindling.bench.engine.ways import Way
from kindling.bench.engine.workload import prompts_of
from kindling.platform.errors import InternalError

_FEWEST_REQUESTS = 4
"""A load with fewer is measured several times over."""
_MOST_ONE_BY_ONE = 8
_WARM_UP_TOKENS = 8


def _measure(request: dict[str, Any]) -> dict[str, Any]:
    import torch

    torch.set_num_threads(request["threads"])
    way, new_tokens = Way(request["way"]), int(request["new_tokens"])
    with _opened(way, Path(request["model"])) as generate:
        return {"rates": [_rate(generate, _requests(way, load), new_tokens) for load in request["loads"]]}


def _requests(way: Way, load: int) -> int:
    """How many stand for the load: one by one, the rate does not depend on how many wait."""
    return min(load, _MOST_ONE_BY_ONE) if way is Way.ONE_BY_ONE else load


def _rate(generate: Generate, requests: int, new_tokens: int) -> float:
    """Tokens per second from the moment when all prompts are there until the last token."""
    generate(prompts_of(requests, 0), _WARM_UP_TOKENS)
    passes = max(1, _FEWEST_REQUESTS // requests)
    seconds = 0.0
    for number in range(1, passes + 1):
        prompts = prompts_of(requests, number)
        start = time.perf_counter()
        tokens = generate(prompts, new_tokens)
        seconds += time.perf_counter() - start
        if tokens != requests * new_tokens:
            raise InternalError(f"{tokens} tokens came instead of {requests * new_tokens}", reason="TOKENS_MISSING")
    return passes * requests * new_tokens / seconds


@contextmanager
def _opened(way: Way, directory: Path) -> Iterator[Generate]:
    if way in (Way.KINDLING, Way.KINDLING_EXACT):
        from kindling.bench.engine.ours import our_engine

        with our_engine(directory, exact=way is Way.KINDLING_EXACT) as generate:
            yield generate
        return
    from kindling.bench.engine import theirs

    if way is Way.CONTINUOUS:
        with theirs.continuous_batching(directory) as generate:
            yield generate
    else:
        yield theirs.one_by_one(directory) if way is Way.ONE_BY_ONE else theirs.static_batch(directory)


if __name__ == "__main__":
    answer_parent(_measure)

"""The whole run: make the model, measure every way in turns."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from kindling.bench.child import ask_child
from kindling.bench.engine.options import EngineOptions
from kindling.bench.engine.results import Results
from kindling.bench.engine.ways import Way
from kindling.bench.engine.workload import SHAPE
from kindling.bench.model_child import make_model_apart
from kindling.platform.errors import FailedPreconditionError

Say = Callable[[str], None]


def measure(options: EngineOptions, say: Say) -> Results:
    """Return everything that was measured; a way that fails is noted and the rest goes on.

    Raises:
        FailedPreconditionError: MEASUREMENT_FAILED, if the model cannot be made.
    """
    results = Results()
    with tempfile.TemporaryDirectory(prefix="kindling-bench-") as name:
        say("making the model")
        make_model_apart(Path(name), SHAPE, "bfloat16")
        for number in range(options.rounds):
            for way in _in_turns(number):
                if way not in results.failures:
                    say(f"round {number + 1} of {options.rounds}: {way.label}")
                    _attempt(way, Path(name), options, results)
    return results


def _in_turns(number: int) -> list[Way]:
    """Each round begins with another way, so that none is always the one after an idle, or a busy, moment."""
    ways = list(Way)
    start = number % len(ways)
    return ways[start:] + ways[:start]


def _attempt(way: Way, model: Path, options: EngineOptions, results: Results) -> None:
    request = {
        "way": way,
        "model": str(model),
        "loads": options.loads,
        "new_tokens": options.new_tokens,
        "threads": len(os.sched_getaffinity(0)),
    }
    try:
        answer = ask_child("kindling.bench.engine.way_child", request)
    except FailedPreconditionError as error:
        results.fail(way, error.message)
        return
    for load, rate in zip(options.loads, answer["rates"], strict=True):
        results.add(way, load, rate)

"""The whole run: each size of the cluster built, filled and driven, the smallest first."""

import gc
import random
import tracemalloc
from collections.abc import Callable

from kindling.bench.place.cluster import build
from kindling.bench.place.drive import Driver
from kindling.bench.place.options import PlaceOptions, Size
from kindling.bench.place.results import Sample

Say = Callable[[str], None]


def measure(options: PlaceOptions, say: Say) -> list[Sample]:
    """Return what was measured of each size, the smallest first; the last is the stated one.

    Raises InvalidArgumentError CLUSTER_TOO_SMALL.
    """
    samples = []
    for size in options.sizes():
        say(f"{size.nodes} nodes with {size.workers_per_node} workers each, {size.models} models")
        samples.append(_measure_one(size, options))
        gc.collect()
    return samples


def _measure_one(size: Size, options: PlaceOptions) -> Sample:
    """Half of the steps with a tenth of the slots free, the other half with none. Memory is that of all objects that
    the planner and its view hold before the first event."""
    dice, sample = random.Random(options.seed), Sample(size)
    tracemalloc.start()
    planner = build(size, dice)
    sample.memory_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    driver = Driver(planner, dice, sample)
    driver.fill()
    half = options.steps_for(size) // 2
    driver.run(half)
    driver.fill_up()
    driver.run(half)
    return sample

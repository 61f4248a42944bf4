"""Where a checkpoint's bytes are to be for the engine: where they are mapped, or on a device."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Protocol

from kindling.checkpoint.manifest import Manifest
from kindling.worker.adapters.arrivals import Arrivals
from kindling.worker.adapters.mapping import PartitionMapping
from kindling.worker.adapters.shm_weights import SharedWeights
from kindling.worker.ports import WeightSource


class PlacedWeights(WeightSource, Protocol):
    """Weights made of mapped partitions."""

    reads_mappings: bool
    """Whether the engine needs the mappings once everything is placed."""

    placed: Future[None]
    """Done when every byte that has arrived is where the engine reads it, if no more will come; or what failed."""

    def close(self) -> None:
        """Return when nobody but the engine's views reads the mappings; blocks."""
        ...


MakeWeights = Callable[[Manifest, Sequence[PartitionMapping], Arrivals], PlacedWeights]
"""Synchronous, and slow where memory must be allocated: to be called on a thread that may block."""


def weights_on(device: str) -> MakeWeights:
    """Return how weights are placed on a device.

    Raises:
        FailedPreconditionError: DEVICE_UNAVAILABLE.
    """
    if device == "cpu":
        return SharedWeights
    from kindling.worker.adapters.arena_weights import ArenaWeights
    from kindling.worker.adapters.cuda_copier import CudaDevice
    from kindling.worker.adapters.devices import resolve_device

    return partial(ArenaWeights, make_copier=CudaDevice(resolve_device(device)).copier)

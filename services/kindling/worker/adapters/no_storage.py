"""Checkpoints for an engine that looks at none."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kindling.worker.domain.instance import LoadProgress, LoadReport
from kindling.worker.domain.tensor_spec import TensorSpec

if TYPE_CHECKING:
    import torch


class EmptyCheckpoint:
    """No tensors, no files, there at once; both an ``OpenCheckpoint`` and its ``WeightSource``."""

    complete = True
    files_directory = Path("/nonexistent")

    def __init__(self) -> None:
        self.tensors: Mapping[str, TensorSpec] = {}
        self.taken_back = asyncio.Event()

    @property
    def weights(self) -> "EmptyCheckpoint":
        """Itself."""
        return self

    def tensor(self, name: str) -> "torch.Tensor":
        """Raise KeyError: there is none."""
        raise KeyError(name)

    def wait(self, names: Iterable[str]) -> None:
        """Return at once."""

    @property
    def report(self) -> LoadReport | None:
        """A report of nothing."""
        return LoadReport()

    async def loaded(self) -> LoadReport:
        """Return a report of nothing."""
        return LoadReport()

    size_bytes = 0

    async def park(self) -> None:
        """Do nothing: nobody wants it back."""

    async def unpark(self) -> None:
        """Do nothing."""

    def give_up(self) -> None:
        """Do nothing: nothing is under way."""


class NoStorage:
    """The port ``CheckpointStore`` of a fake engine without a storage manager: every digest opens, empty."""

    @asynccontextmanager
    async def open(self, digest: str, on_progress: Callable[[LoadProgress], None]) -> AsyncIterator[EmptyCheckpoint]:
        """Hold nothing."""
        del digest
        on_progress(LoadProgress())
        yield EmptyCheckpoint()

"""What an instance needs besides an engine: its checkpoint in memory, and somebody who builds engines from one."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from kindling.worker.domain.instance import InstanceSpec, LoadProgress, LoadReport
from kindling.worker.ports import Engine, WeightSource


class OpenCheckpoint(Protocol):
    """A checkpoint in this process's memory, arriving or all there."""

    @property
    def weights(self) -> WeightSource:
        """Its tensors."""
        ...

    @property
    def files_directory(self) -> Path:
        """Directory of its small files: configuration, tokenizer."""
        ...

    @property
    def report(self) -> LoadReport | None:
        """What ``loaded`` returns, once every byte is there; raises what ``loaded`` raises."""
        ...

    async def loaded(self) -> LoadReport:
        """Return when every byte is there; only ``traffic`` and ``load_seconds`` of the report are set.

        Raises:
            KindlingError: what the load failed with.
        """
        ...

    @property
    def size_bytes(self) -> int:
        """Bytes of its weights."""
        ...

    @property
    def taken_back(self) -> asyncio.Event:
        """Set when the owner of a parked checkpoint's memory needs it: the checkpoint is to be closed at once."""
        ...

    async def park(self) -> None:
        """Let the loaded checkpoint be taken back from now on; nobody computes with it.

        Raises:
            KindlingError: the owner of the memory did not agree; the checkpoint is to be closed.
        """
        ...

    async def unpark(self) -> None:
        """Be sure of the checkpoint again.

        Raises:
            KindlingError: it was taken back, or that cannot be known; the checkpoint is to be closed.
        """
        ...

    def give_up(self) -> None:
        """Nobody waits for the bytes any more: make ``weights.wait`` raise CancelledError with reason LOAD_GIVEN_UP."""
        ...


class CheckpointStore(Protocol):
    """Where checkpoints come from: the node's storage manager."""

    def open(
        self, digest: str, on_progress: Callable[[LoadProgress], None]
    ) -> AbstractAsyncContextManager[OpenCheckpoint]:
        """Hold the checkpoint in memory inside the context; no tensor may be read after it.

        Raises:
            KindlingError: what the storage manager says, for instance NotFoundError CHECKPOINT_NOT_FOUND;
                UnavailableError if it cannot be reached.
        """
        ...


class EngineFactory(Protocol):
    """Builds engines. Synchronous: both methods are called on a thread of their own."""

    def warm_up(self) -> float:
        """Do everything that needs no model, so that no cold start pays for it.

        Returns the seconds that building an engine for a small model takes from now on; 0 if there is nothing to build.
        """
        ...

    def build(self, spec: InstanceSpec, checkpoint: OpenCheckpoint) -> Engine:
        """Return an engine for the checkpoint, not waiting for bytes that it does not need yet.

        Raises:
            KindlingError: the checkpoint does not make a model, for instance because a tensor is missing.
        """
        ...

"""Builds the engine that the settings name."""

import time
from dataclasses import dataclass

from kindling.worker.adapters.fake_engine import FakeEngine
from kindling.worker.checkpoint_ports import OpenCheckpoint
from kindling.worker.domain.instance import InstanceSpec
from kindling.worker.ports import StepEvent


@dataclass(frozen=True, slots=True)
class FakeEngineOptions:
    """The model that the fake engine pretends to be; ``step_seconds`` is how long it pretends to compute."""

    vocab_size: int = 1000
    context_length: int = 4096
    max_running: int = 1024
    step_seconds: float = 0.0


class PacedFakeEngine(FakeEngine):
    """A fake engine whose steps take time, on the engine's own thread, as real ones do."""

    def __init__(self, options: FakeEngineOptions) -> None:
        super().__init__(
            vocab_size=options.vocab_size, context_length=options.context_length, max_running=options.max_running
        )
        self._step_seconds = options.step_seconds

    def step(self) -> list[StepEvent]:
        """Give every running generation its next token, after a while."""
        if self._step_seconds:
            time.sleep(self._step_seconds)
        return super().step()


class FakeEngineFactory:
    """Builds fake engines; looks at nothing of the checkpoint."""

    def __init__(self, options: FakeEngineOptions) -> None:
        self._options = options

    def warm_up(self) -> float:
        """Do nothing: there is nothing to warm."""
        return 0.0

    def build(self, spec: InstanceSpec, checkpoint: OpenCheckpoint) -> FakeEngine:  # noqa: ARG002 - the port's
        """Return a fake engine."""
        return PacedFakeEngine(self._options)

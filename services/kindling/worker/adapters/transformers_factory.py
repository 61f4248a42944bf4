"""Builds transformers engines. What is slow to import is imported by ``warm_up``, before anybody waits for it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kindling.worker.adapters.devices import default_kv_budget, resolve_device
from kindling.worker.checkpoint_ports import OpenCheckpoint
from kindling.worker.domain.instance import InstanceSpec

if TYPE_CHECKING:
    from kindling.worker.adapters.transformers_engine import TransformersEngine


@dataclass(frozen=True, slots=True)
class TransformersEngineFactory:
    """Engines on ``device`` that compute with ``threads`` threads and keep ``kv_cache_bytes`` of keys and values.

    Without a number they get a share, one of ``slots``, of what a device of its own memory has free. ``exact`` asks for
    the batch-invariant mode.
    """

    device: str
    threads: int
    kv_cache_bytes: int | None
    slots: int = 1
    exact: bool = False

    def warm_up(self) -> float:
        """Import torch and transformers with the models that can be run, and run a tiny one; see the port.

        Raises:
            FailedPreconditionError: DEVICE_UNAVAILABLE.
        """
        import torch
        import transformers

        from kindling.worker.adapters.transformers_engine import run_tiny_model, supported_architectures

        torch.set_num_threads(self.threads)
        for architecture in supported_architectures():
            getattr(transformers, architecture)
        return run_tiny_model(str(resolve_device(self.device)))

    def build(self, spec: InstanceSpec, checkpoint: OpenCheckpoint) -> "TransformersEngine":  # noqa: ARG002 - the port's
        """Return an engine whose parameters are views of the checkpoint's memory."""
        from kindling.worker.adapters.transformers_engine import TransformersEngine

        return TransformersEngine(
            checkpoint.weights,
            checkpoint.files_directory,
            device=self.device,
            kv_budget_bytes=self.kv_cache_bytes or default_kv_budget(resolve_device(self.device), self.slots),
            exact=self.exact,
        )

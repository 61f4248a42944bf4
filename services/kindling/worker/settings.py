"""Settings of the inference worker, read from ``KINDLING_WORKER_*``."""

import enum
import os

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from kindling.platform.settings import ServiceSettings

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class EngineKind(enum.Enum):
    """Which engine computes the tokens."""

    TRANSFORMERS = "transformers"
    FAKE = "fake"


class WorkerSettings(ServiceSettings):
    """One worker of a node."""

    model_config = SettingsConfigDict(env_prefix="KINDLING_WORKER_")

    node_id: str = Field(pattern=NAME_PATTERN, description="the node that the worker belongs to")
    name: str = Field(default="worker-0", pattern=NAME_PATTERN, description="the worker's name within its node")
    device: str = Field(
        default="cpu", pattern=r"^(cpu|cuda(:\d{1,3})?)$", description="what the engine computes on: cpu, cuda, cuda:1"
    )
    slots: int = Field(default=1, ge=1, description="instances that run at once")
    engine: EngineKind = EngineKind.TRANSFORMERS
    storage_address: str = Field(
        default="", description="host:port of the node's storage manager; only the fake engine does without"
    )
    threads: int = Field(default=0, ge=0, description="threads that compute; 0 means as many as there are cores")
    kv_cache_bytes: int | None = Field(
        default=None,
        ge=2**20,
        description="memory for keys and values per instance; default: 256 MiB on a CPU, else this slot's share of "
        "what the device has free",
    )
    exact: bool = Field(
        default=False,
        description="make a token's result independent of what else runs, so that a continuation elsewhere is the same "
        "also in bfloat16; slower, and only where a trial at the model's start shows that it holds",
    )
    memory_bytes: int | None = Field(
        default=None,
        ge=0,
        description="bytes of weights that the device can hold; 0 means that the scheduler need not mind; default: an "
        "accelerator's memory, and 0 on a CPU, whose weights stay in the node's chunk pool",
    )
    parked_models: int = Field(default=4, ge=0, description="stopped models kept ready for their next start")
    parked_bytes: int | None = Field(
        default=None,
        ge=0,
        description="most bytes of their weights; default: a quarter of an accelerator's memory, and on a CPU whatever "
        "the node's chunk pool can spare",
    )
    orphan_seconds: float = Field(
        default=10.0, gt=0, description="how long a generation that was received here may be without a reader"
    )
    fake_vocab_size: int = Field(default=1000, ge=1)
    fake_context_length: int = Field(default=4096, ge=2)
    fake_max_running: int = Field(default=1024, ge=1)
    fake_step_seconds: float = Field(default=0.0, ge=0.0, description="how long a step of the fake engine takes")

    @property
    def worker_id(self) -> str:
        """The worker's id, unique in the cluster."""
        return f"{self.node_id}/{self.name}"

    @property
    def thread_count(self) -> int:
        """Threads that compute."""
        return self.threads or len(os.sched_getaffinity(0))

    @model_validator(mode="after")
    def _require_storage(self) -> "WorkerSettings":
        if not self.storage_address and self.engine is not EngineKind.FAKE:
            raise ValueError("storage_address is needed: set it to host:port of the node's storage manager")
        return self

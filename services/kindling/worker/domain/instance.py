"""An instance as others see it: what it runs, how its start went, what it is doing."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace


class Tier(enum.Enum):
    """Where bytes of a checkpoint come from, fastest first."""

    GPU = "gpu"
    DRAM = "dram"
    SSD = "ssd"
    REMOTE = "remote"


class InstanceState(enum.Enum):
    """What an instance is doing."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class InstanceSpec:
    """What is asked for: ``digest`` names the checkpoint, ``model`` is the name that people call it by."""

    instance_id: str
    model: str
    digest: str


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """How much of a checkpoint is where it is needed; ``tier`` is the slowest that bytes have come from."""

    loaded_bytes: int = 0
    total_bytes: int = 0
    tier: Tier | None = None


@dataclass(frozen=True, slots=True)
class TierTraffic:
    """Bytes that came from one tier, and the seconds during which some did."""

    tier: Tier
    bytes_read: int
    seconds: float


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What a start was made of; ``traffic`` and ``load_seconds`` say nothing until it is ``complete``.

    ``load_seconds`` is to the last chunk in memory, ``init_seconds`` what mapping and building the model took,
    ``total_seconds`` until the instance took generations or, once complete, until the last chunk if that was later.
    """

    traffic: tuple[TierTraffic, ...] = ()
    load_seconds: float = 0.0
    init_seconds: float = 0.0
    total_seconds: float = 0.0
    complete: bool = False

    def completed(self, loaded: "LoadReport", seconds: float) -> "LoadReport":
        """Return the report once all is there, ``seconds`` after the request: what came from where is ``loaded``'s."""
        total_seconds = max(self.total_seconds, seconds)
        return replace(loaded, init_seconds=self.init_seconds, total_seconds=total_seconds, complete=True)

    def of_parked(self, size_bytes: int) -> "LoadReport":
        """Return the report of a start whose weights, so many bytes, were where they are needed."""
        traffic = TierTraffic(Tier.GPU, size_bytes, self.total_seconds)
        return replace(self, traffic=(traffic,), load_seconds=self.total_seconds, complete=True)


@dataclass(frozen=True, slots=True)
class InstanceView:
    """An instance at one moment; ``report`` is there from when it is ready, complete from when all is loaded.

    ``generation_tokens`` says how many tokens each of its generations has, prompt and answer; ``tenants`` whose they
    are, but for those of the default tenant.
    """

    spec: InstanceSpec
    state: InstanceState
    generation_ids: tuple[str, ...]
    report: LoadReport | None
    tenants: Mapping[str, str] = field(default_factory=dict)
    generation_tokens: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ParkedCheckpoint:
    """A checkpoint whose model would start at once: its weights, of so many bytes, and its engine are kept."""

    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class WorkerView:
    """What a worker runs and what it has parked (longest first) at one moment, whole."""

    instances: tuple[InstanceView, ...]
    draining: bool
    parked: tuple[ParkedCheckpoint, ...] = ()

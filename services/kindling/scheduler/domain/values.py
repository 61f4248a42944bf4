"""What the scheduler knows of the cluster, as values. Sizes are bytes, times seconds unless the name says otherwise."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

NEVER = float("-inf")


class Tier(enum.IntEnum):
    """Where the bytes of a checkpoint can be; a larger number is slower."""

    GPU = 1
    DRAM = 2
    SSD = 3
    REMOTE = 4


class InstanceState(enum.Enum):
    """What an instance is doing."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"


class MigrationStage(enum.Enum):
    """What a migration is doing."""

    STARTING = "starting"
    MOVING = "moving"
    STOPPING = "stopping"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """An immutable set of weights; ``digest`` identifies it everywhere."""

    digest: str
    total_bytes: int
    chunk_bytes: int = 0
    chunk_count: int = 0
    architecture: str = ""
    dtype: str = ""
    parameter_count: int = 0
    context_length: int = 0


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """How a model is scaled and queued; ``max_instances`` of 0 means as many as there are slots. Each instance takes
    ``devices`` of one node, all of a kind."""

    min_instances: int = 0
    max_instances: int = 0
    concurrency_target: int = 8
    keep_alive_seconds: float = 300.0
    max_queued_requests: int = 1024
    max_queue_wait_seconds: float = 600.0
    devices: int = 1


@dataclass(frozen=True, slots=True)
class Model:
    """A user-facing name that points at a checkpoint and settings. ``create_time`` is seconds since the epoch."""

    name: str
    checkpoint: Checkpoint
    settings: ModelSettings = field(default_factory=ModelSettings)
    source_uri: str = ""
    create_time: float = 0.0

    @property
    def device_bytes(self) -> int:
        """Bytes of weights that an instance takes of each of its devices."""
        return -(-self.checkpoint.total_bytes // self.settings.devices)


@dataclass(frozen=True, slots=True)
class TierUse:
    """One tier of a node: its size, what is used, and its speed (0 before the first measurement)."""

    tier: Tier
    capacity_bytes: int = 0
    used_bytes: int = 0
    pinned_bytes: int = 0
    bandwidth_bytes_per_second: float = 0.0
    backing: str = ""


@dataclass(frozen=True, slots=True)
class Node:
    """A machine with a live storage manager."""

    node_id: str
    storage_address: str
    tiers: tuple[TierUse, ...] = ()

    def measured_bandwidth(self, tier: Tier) -> float:
        """Bytes per second out of a tier as the storage manager measured them; 0 if it has not."""
        for use in self.tiers:
            if use.tier is tier:
                return use.bandwidth_bytes_per_second
        return 0.0


@dataclass(frozen=True, slots=True)
class Worker:
    """A process that can run ``slots`` instances at once."""

    worker_id: str
    node_id: str
    address: str
    device: str = "cpu"
    slots: int = 1
    init_seconds: float = 0.0  # what building a small model took; 0 if it was not measured
    memory_bytes: int = 0  # of weights that its device can hold; 0 if it does not tell

    @property
    def device_tier(self) -> Tier:
        """The tier whose bytes the device computes on without a copy."""
        return Tier.DRAM if self.device.startswith("cpu") else Tier.GPU

    @property
    def device_kind(self) -> str:
        """The device without its number: `cuda` for `cuda:0`."""
        return self.device.partition(":")[0]


@dataclass(frozen=True, slots=True)
class Residency:
    """How many bytes of a checkpoint, counted from its head, each tier of a node holds."""

    node_id: str
    digest: str
    bytes_by_tier: Mapping[Tier, int]


@dataclass(frozen=True, slots=True)
class TierTraffic:
    """Bytes that a load took from one tier, and the seconds during which it read there."""

    source: Tier
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What a start was made of; where the bytes came from, and how long they took, is known once it is ``complete``."""

    traffic: tuple[TierTraffic, ...] = ()
    load_seconds: float = 0.0
    init_seconds: float = 0.0
    total_seconds: float = 0.0
    complete: bool = False

    @property
    def slowest_tier(self) -> Tier | None:
        """The slowest tier that bytes came from; none if nothing was read."""
        return max((part.source for part in self.traffic if part.bytes), default=None)


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """How far a load has come; ``source`` is the slowest tier that bytes still come from."""

    loaded_bytes: int
    total_bytes: int
    source: Tier | None = None


@dataclass(frozen=True, slots=True)
class Instance:
    """One model in one worker. ``create_time`` is seconds since the epoch, other times are on the monotonic clock.

    ``source`` is the slowest tier that its weights were expected from. The report is there from when it is ready;
    ``loaded_at`` is when its last chunk was, if that was after it was ready. ``tenant`` is on whose behalf it was
    started, empty for the default one; none if no request was. It takes ``device_bytes`` of its worker's device and of
    each of the ``others`` on the same node, for all of which its worker speaks."""

    instance_id: str
    model: str
    digest: str
    worker_id: str
    state: InstanceState
    create_time: float = 0.0
    estimated_seconds: float = 0.0
    started_at: float = NEVER
    ready_at: float = NEVER
    loaded_at: float = NEVER
    report: LoadReport | None = None
    source: Tier | None = None
    tenant: str | None = None
    device_bytes: int = 0
    others: tuple[str, ...] = ()

    @property
    def node_id(self) -> str:
        """The node of its worker, whose id is `node/worker`."""
        return self.worker_id.rpartition("/")[0]

    @property
    def worker_ids(self) -> tuple[str, ...]:
        """Its worker, and the others whose devices it takes."""
        return (self.worker_id, *self.others)

    @property
    def is_loading(self) -> bool:
        """Whether it takes generations while its last weights are still on their way."""
        return self.state is InstanceState.READY and self.report is not None and not self.report.complete

    @property
    def slowest_tier(self) -> Tier | None:
        """The slowest tier that its weights came from, or are expected from until that is known."""
        return self.report.slowest_tier if self.report and self.report.complete else self.source

    @property
    def startup_seconds(self) -> float | None:
        """Seconds from the decision until it took generations and its last chunk was there; none before.

        If another leader decided it, the worker's own seconds, from when it was asked to when it was done.
        """
        if self.report is None or not self.report.complete:
            return None
        return max(self.report.total_seconds, max(self.ready_at, self.loaded_at) - self.started_at)


@dataclass(frozen=True, slots=True)
class ReportedInstance:
    """An instance as its worker sees it; the report is there once it is complete.

    ``tenants`` says whose its generations are, but for those of the default tenant; ``tokens`` how many tokens they
    have, prompt and answer, which workers of an earlier release do not say.
    """

    instance_id: str
    generation_ids: frozenset[str] = frozenset()
    loaded: LoadReport | None = None
    tenants: Mapping[str, str] = field(default_factory=dict)
    tokens: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ParkedCheckpoint:
    """A checkpoint with its engine that a worker keeps ready: it would start there at once."""

    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """What a worker runs and has parked now, whole."""

    worker_id: str
    instances: tuple[ReportedInstance, ...] = ()
    draining: bool = False
    parked: tuple[ParkedCheckpoint, ...] = ()


@dataclass(frozen=True, slots=True)
class Migration:
    """Every generation of the source goes to the target, and the source stops then.

    While the target starts, the source serves on. Once generations are ``moving``, it gets no new ones.
    """

    source_id: str
    target_id: str
    moving: bool = False


@dataclass(frozen=True, slots=True)
class Drain:
    """Nothing is started on a node, and what runs there moves away."""

    node_id: str


@dataclass(frozen=True, slots=True)
class Retirement:
    """A checkpoint that no model has any more is to be deleted everywhere."""

    digest: str


@dataclass(frozen=True, slots=True)
class Request:
    """A generation that wants a place, and not on the instances in ``avoid`` if there is any other.

    ``tenant`` is whose it is, empty for the default one.
    """

    generation_id: str
    model: str
    arrived_at: float
    avoid: frozenset[str] = frozenset()
    tenant: str = ""

"""What the scheduler needs of the world: a store of records, workers and storage managers."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from kindling.scheduler.domain.answers import Answer
from kindling.scheduler.domain.promotions import Promotion
from kindling.scheduler.domain.values import (
    Checkpoint,
    Drain,
    Instance,
    LoadProgress,
    LoadReport,
    Migration,
    Model,
    Node,
    Residency,
    Retirement,
    Tier,
    TierUse,
    Worker,
    WorkerReport,
)
from kindling.scheduler.domain.verification import NodeVerified, VerifyProgress


@dataclass(frozen=True, slots=True)
class Records:
    """Everything in the store, as of one moment."""

    nodes: tuple[Node, ...] = ()
    workers: tuple[Worker, ...] = ()
    residency: tuple[Residency, ...] = ()
    models: tuple[Model, ...] = ()
    instances: tuple[Instance, ...] = ()
    migrations: tuple[Migration, ...] = ()
    drains: tuple[Drain, ...] = ()
    retirements: tuple[Retirement, ...] = ()
    answers: tuple[Answer, ...] = ()


@dataclass(frozen=True, slots=True)
class Closing:
    """What is recorded at once with a mutation: its answer, and the request ids that are ``obsolete`` from then on."""

    answer: Answer
    obsolete: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeGone:
    """A storage manager's lease is over."""

    node_id: str


@dataclass(frozen=True, slots=True)
class WorkerGone:
    """A worker's lease is over."""

    worker_id: str


@dataclass(frozen=True, slots=True)
class ResidencyGone:
    """A node holds nothing of a checkpoint any more."""

    node_id: str
    digest: str


TopologyChange = Node | Worker | Residency | NodeGone | WorkerGone | ResidencyGone


class Store(Protocol):
    """The cluster's records, written as the leader. Every write happens wholly or not at all, and only while this
    scheduler leads; it is repeated through outages, and raises LEADERSHIP_LOST once somebody else may lead."""

    def follow(self) -> AsyncGenerator[Records | TopologyChange, None]:
        """Yield everything, then each change of nodes, workers and residency; everything again if some were missed."""
        ...

    async def confirm(self) -> None:
        """Return if this scheduler still leads: whatever was heard before this call was heard by the leader."""
        ...

    async def record_start(self, instance: Instance, reason: str) -> None:
        """Record an instance that is about to start, and the decision."""
        ...

    async def record_ready(self, instance: Instance) -> None:
        """Record that an instance computes; its decision is done."""
        ...

    async def record_stop(self, instance: Instance, reason: str) -> None:
        """Record an instance that is about to stop, and the decision."""
        ...

    async def forget_instances(self, instance_ids: Sequence[str]) -> None:
        """Delete instances and their decisions."""
        ...

    async def record_migration(self, migration: Migration, reason: str, start: Instance | None) -> None:
        """Record the decision to move an instance, at once with the start of its target if there is one."""
        ...

    async def forget_migration(self, migration: Migration) -> None:
        """Delete the decision to move an instance; stopping the source does so too."""
        ...

    async def put_drain(self, drain: Drain) -> None:
        """Record that a node is drained."""
        ...

    async def delete_drain(self, node_id: str) -> None:
        """Record that a node serves again."""
        ...

    async def put_model(self, model: Model, closing: Closing | None) -> None:
        """Record a model; its checkpoint is not retired any more."""
        ...

    async def delete_model(self, name: str, retirement: Retirement | None, closing: Closing | None) -> None:
        """Delete a model, at once with the decision to retire its checkpoint if there is one."""
        ...

    async def forget_retirement(self, digest: str) -> None:
        """Delete the decision to retire a checkpoint."""
        ...


@dataclass(frozen=True, slots=True)
class GenerationMoved:
    """A generation was handed over to the other worker, with so many tokens of prompt and answer; 0 if not told."""

    generation_id: str
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class GenerationStayed:
    """A generation could not be moved and goes on where it was."""

    generation_id: str
    why: str


class Workers(Protocol):
    """The workers' side of the conversation, as one leader has it. Calls raise KindlingError: UNAVAILABLE if the worker
    cannot be reached, LEADER_DEPOSED if it has heard of a later leader."""

    def watch(self, worker: Worker) -> AsyncGenerator[WorkerReport, None]:
        """Yield what the worker runs, now and at every change."""
        ...

    def start(self, worker: Worker, instance: Instance) -> AsyncGenerator[LoadProgress | LoadReport, None]:
        """Start an instance, or join its start; the last item is the report."""
        ...

    async def stop(self, worker: Worker, instance_id: str) -> None:
        """Stop an instance once its generations are done; returns when it is gone."""
        ...

    def migrate(
        self, worker: Worker, instance_id: str, target: Worker, target_instance_id: str
    ) -> AsyncGenerator[GenerationMoved | GenerationStayed, None]:
        """Have a worker move every generation that it has in an instance; yields what becomes of each."""
        ...


@dataclass(frozen=True, slots=True)
class ImportProgress:
    """How far packing a source has come."""

    done_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class FilePart:
    """A piece of a small file."""

    path: str
    file_bytes: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class TierContents:
    """A tier, and the checkpoints in it: (digest, chunks, bytes)."""

    use: TierUse
    checkpoints: tuple[tuple[str, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class PrefetchCounts:
    """What became of the chunks that were prefetched: a miss is a checkpoint whose chunks were all dropped unused."""

    prefetched_bytes: int
    hits: int
    hit_bytes: int
    misses: int
    wasted_bytes: int


@dataclass(frozen=True, slots=True)
class StorageStatus:
    """A node's tiers, fastest first; no counts if it did not say."""

    tiers: tuple[TierContents, ...]
    prefetch: PrefetchCounts | None = None


@dataclass(frozen=True, slots=True)
class ImportOrder:
    """A source to be packed; ``request_id`` makes asking twice harmless."""

    request_id: str
    source_uri: str
    allow_pickle: bool = False


@dataclass(frozen=True, slots=True)
class Dropped:
    """What a node dropped, and what it keeps because a lease pins it."""

    dropped_bytes: int
    pinned_bytes: int = 0


@dataclass(frozen=True, slots=True)
class VerifyOrder:
    """A checkpoint to be checked, whether to repair it, and whether to read the remote store too."""

    digest: str
    repair: bool
    check_remote: bool


class Storages(Protocol):
    """The storage managers. Calls raise KindlingError; UNAVAILABLE if the node cannot be reached."""

    def import_checkpoint(self, node: Node, order: ImportOrder) -> AsyncGenerator[ImportProgress | Checkpoint, None]:
        """Pack a source into the remote store; the last item is the checkpoint."""
        ...

    async def evict_checkpoint(self, node: Node, digest: str, keep: Tier) -> Dropped:
        """Drop a checkpoint's chunks above a tier, as far as no lease pins them."""
        ...

    async def prefetch(self, node: Node, promotion: Promotion) -> bool:
        """Bring the head of a checkpoint to DRAM; returns whether it is all there, and nothing stood in the way."""
        ...

    async def delete_checkpoint(self, node: Node, digest: str) -> None:
        """Delete a checkpoint from the remote store and the node."""
        ...

    def verify_checkpoint(self, node: Node, order: VerifyOrder) -> AsyncGenerator[VerifyProgress | NodeVerified, None]:
        """Read a checkpoint's chunks at every tier of the node; the last item is what was found."""
        ...

    def read_files(self, node: Node, digest: str) -> AsyncGenerator[FilePart, None]:
        """Yield a checkpoint's small files, piece by piece."""
        ...

    async def status(self, node: Node) -> StorageStatus:
        """Return the node's tiers, and what became of what was prefetched there."""
        ...


class Election(Protocol):
    """Who leads, and the way to it."""

    def campaign(self) -> AbstractAsyncContextManager["Office"]:
        """Wait to lead; leading ends with the context."""
        ...

    def leaders(self) -> AsyncIterator["Leader | None"]:
        """Yield who leads, now and at every change."""
        ...


@dataclass(frozen=True, slots=True)
class Leader:
    """A scheduler that leads, perhaps this one; ``since`` is seconds since the epoch."""

    scheduler_id: str
    address: str
    since: float
    is_self: bool = False


class Office(Protocol):
    """A leadership that was won."""

    @property
    def revision(self) -> int:
        """When it was won: later ones have larger numbers."""
        ...

    @property
    def store(self) -> Store:
        """The records, to be written under this leadership."""
        ...

    @property
    def leader(self) -> Leader:
        """This scheduler, as the leader it has become."""
        ...

    async def lost(self) -> None:
        """Return once the leadership is over."""
        ...

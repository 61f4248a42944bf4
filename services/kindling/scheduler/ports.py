"""What the scheduler needs of the world: a store of records, workers and an office to win."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from kindling.scheduler.domain.answers import Answer
from kindling.scheduler.domain.quotas import TenantQuota
from kindling.scheduler.domain.values import (
    Drain,
    Instance,
    LoadProgress,
    LoadReport,
    Migration,
    Model,
    Node,
    Residency,
    Retirement,
    Worker,
    WorkerReport,
)


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
    quotas: tuple[TenantQuota, ...] = ()


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

    async def put_quota(self, quota: TenantQuota) -> None:
        """Record what a tenant may have."""
        ...

    async def delete_quota(self, tenant: str) -> None:
        """Record that a tenant has no quota of its own."""
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

    def start(
        self, worker: Worker, instance: Instance, others: Sequence[Worker]
    ) -> AsyncGenerator[LoadProgress | LoadReport, None]:
        """Start an instance, or join its start; the last item is the report. ``others`` are those whose devices it
        takes besides the worker's; the worker has them join."""
        ...

    async def stop(self, worker: Worker, instance_id: str) -> None:
        """Stop an instance once its generations are done; returns when it is gone."""
        ...

    def migrate(
        self, worker: Worker, instance_id: str, target: Worker, target_instance_id: str
    ) -> AsyncGenerator[GenerationMoved | GenerationStayed, None]:
        """Have a worker move every generation that it has in an instance; yields what becomes of each."""
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

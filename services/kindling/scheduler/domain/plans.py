"""What the planner decides, and the bounds within which it does."""

from dataclasses import dataclass, field

from kindling.platform.errors import KindlingError
from kindling.scheduler.domain.estimate import Estimate
from kindling.scheduler.domain.values import Instance, Migration, Request


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the scheduler's own; those of a model are in its settings."""

    grant_ttl_seconds: float = 10.0
    no_workers_wait_seconds: float = 30.0
    max_start_attempts: int = 3
    worker_lost_seconds: float = 5.0
    avoid_seconds: float = 2.0


@dataclass(frozen=True, slots=True)
class Grant:
    """A request has room in an instance; ``cold`` if that instance was started while the request waited."""

    request: Request
    instance: Instance
    cold: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request will not run, and why."""

    request: Request
    error: KindlingError


@dataclass(frozen=True, slots=True)
class Start:
    """An instance to be recorded and started, for the request that has waited longest, if any."""

    instance: Instance
    placement: Estimate
    alternatives: tuple[Estimate, ...]
    request: Request | None


@dataclass(frozen=True, slots=True)
class Stop:
    """An instance to be recorded as stopping and stopped."""

    instance: Instance
    reason: str


@dataclass(frozen=True, slots=True)
class Move:
    """A migration to be recorded and carried out, with the start of its target if that does not run yet."""

    migration: Migration
    reason: str
    start: Start | None = None


@dataclass(slots=True)
class Plan:
    """What is to be done now; all of it is entered into the view already. ``has_news`` says that more has changed."""

    grants: list[Grant] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    has_news: bool = False

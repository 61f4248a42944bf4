"""What the policy is asked, and what it answers."""

import enum
from dataclasses import dataclass

from kindling.scheduler.domain.estimate import Estimate
from kindling.scheduler.domain.values import NEVER, Model


class WaitReason(enum.Enum):
    """Why nothing is done for a model now."""

    ENOUGH = "its instances, with those that start, are enough"
    AT_MAXIMUM = "it has as many instances as it may have"
    SLOT_BECOMES_FREE = "an instance that stops or moves makes room"
    SOONER_HERE = "a busy instance is expected to end sooner than a start elsewhere would take"
    NO_SLOT = "every slot is busy or protected"
    NO_WORKERS = "no worker is there, or none but those to be avoided"
    PAUSED = "its start has failed again and again, and is tried again later"
    ALL_FAILED = "its start failed on every worker that is there, or their devices are too small"


@dataclass(frozen=True, slots=True)
class Need:
    """A model with ``queued`` requests, of which the next wants to run elsewhere than the instances in ``avoid``; its
    start has failed on the workers in ``excluded``.

    The plan under way counts on ``coming`` slots for it already. ``since`` is when the next request arrived.
    """

    model: Model
    queued: int = 0
    excluded: frozenset[str] = frozenset()
    avoid: frozenset[str] = frozenset()
    coming: int = 0
    since: float = NEVER


@dataclass(frozen=True, slots=True)
class StartInstance:
    """Start an instance where it is ready soonest; ``alternatives`` are the best of the others."""

    placement: Estimate
    alternatives: tuple[Estimate, ...] = ()


@dataclass(frozen=True, slots=True)
class StopInstance:
    """Stop an idle instance, so that its slot becomes free."""

    instance_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class MoveInstance:
    """Have a busy instance's generations go on in an instance started at ``target``: its slot is free then."""

    instance_id: str
    target: Estimate
    reason: str


@dataclass(frozen=True, slots=True)
class JoinInstance:
    """Have a busy instance's generations go on in another of its model, which has room: its slot is free then."""

    instance_id: str
    target_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class AwaitSlot:
    """Count on the slot of an instance that stops or moves away already."""

    instance_id: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing until something changes, or until ``until``."""

    reason: WaitReason
    until: float | None = None


Step = StopInstance | MoveInstance | JoinInstance | AwaitSlot


@dataclass(frozen=True, slots=True)
class ClearDevices:
    """Have several leave, so that there is room on these workers; what is free there already is counted on too."""

    steps: tuple[Step, ...]
    worker_ids: tuple[str, ...]


MakeRoom = Step | ClearDevices
Decision = StartInstance | MakeRoom | Wait

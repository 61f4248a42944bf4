"""How long a model would take to start on a worker, and its generations to move to another."""

import math
from dataclasses import dataclass

from kindling.scheduler.domain.loads import Load
from kindling.scheduler.domain.values import NEVER, Checkpoint, Instance, Tier, Worker
from kindling.scheduler.domain.view import ClusterView

ESTIMATE_DIGITS = 6  # of seconds: who joins a load that has just begun is not sooner by what rounding leaves


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What is believed before anything was measured."""

    init_seconds: float = 0.5
    parked_seconds: float = 0.02


@dataclass(frozen=True, slots=True)
class Estimate:
    """The startup time expected on a worker, and what it is made of; ``source`` is the slowest tier it reads from.

    The devices of the ``others``, workers of the same node, are taken as well.
    """

    worker_id: str
    queue_seconds: float
    load_seconds: float
    init_seconds: float
    source: Tier | None
    dispatch_seconds: float = 0.0
    others: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """The startup time: the worker is told, and builds the model while its weights arrive, once the loads before it
        are over.

        It ends with the last chunk, as ``Instance.startup_seconds`` does: generations are taken before that, but the
        first token goes through every layer.
        """
        return self.seconds_with(self.init_seconds)

    def seconds_with(self, init_seconds: float) -> float:
        """What the startup time would be in a worker of the same kind that builds the model in so long."""
        return round(self.dispatch_seconds + self.queue_seconds + max(self.load_seconds, init_seconds), ESTIMATE_DIGITS)


def estimate(
    view: ClusterView, worker: Worker, checkpoint: Checkpoint, now: float, assumptions: Assumptions
) -> Estimate:
    """Return the startup time of a checkpoint on a worker whose node is live; for what is parked there, no load."""
    learned = view.experience
    if view.holders.has_parked(worker.worker_id, checkpoint.digest):
        parked_seconds = learned.parked_seconds(worker, assumptions.parked_seconds)
        return Estimate(worker.worker_id, 0.0, 0.0, parked_seconds, Tier.GPU, learned.asking_seconds)
    own = Load(worker, checkpoint.digest, view.missing_bytes(worker, checkpoint), now)
    queue_seconds, load_seconds = _turn(view, own)
    source = max(own.missing, default=None)
    return Estimate(
        worker_id=worker.worker_id,
        queue_seconds=queue_seconds,
        load_seconds=load_seconds,
        init_seconds=learned.init_seconds(checkpoint, worker, source) or assumptions.init_seconds,
        source=source,
        dispatch_seconds=learned.dispatch_seconds,
    )


def migration_seconds(view: ClusterView, source: Instance, target: Worker, tokens: float | None = None) -> float:
    """Return how long an instance's generations take to move to another worker, if they have so many tokens together,
    by default those that they have now."""
    if tokens is None:
        tokens = generation_tokens(view, source)
    return view.experience.handovers.seconds(source.digest, target.device_kind, tokens)


def expected_at(instance: Instance) -> float:
    """Return when a start is over, its last chunk too, if it takes as long as was estimated."""
    return instance.started_at + instance.estimated_seconds


def generation_tokens(view: ClusterView, instance: Instance) -> float:
    """Return how many tokens an instance's generations have together, prompts and answers.

    Those of which the worker has not told it yet have as many as those that moved.
    """
    told = view.link(instance.worker_id).tokens(instance.instance_id)
    otherwise = view.experience.handovers.generation_tokens(instance.digest)
    return math.fsum(told.get(name, otherwise) for name in view.grants.running(instance.instance_id))


def _turn(view: ClusterView, own: Load) -> tuple[float, float]:
    """Seconds until the loads before it on its node are over, and those that it takes then.

    It joins a load of the same checkpoint; what is in DRAM waits for those to its own device alone. What a load has yet
    to bring has gone on at the pace expected since it was last told.
    """
    now, ends = own.told_at, NEVER
    fetches = any(tier > Tier.DRAM for tier in own.missing)
    for load in view.loads.on_node(own.worker.node_id):
        if not fetches and load.worker.worker_id != own.worker.worker_id:
            continue
        begins = max(ends, load.told_at)
        ends = max(now, begins + _load_seconds(view, load, own.worker))
        if load.digest == own.digest:
            return max(0.0, begins - now), ends - max(begins, now)
    return max(0.0, ends - now), _load_seconds(view, own, own.worker)


def _load_seconds(view: ClusterView, load: Load, worker: Worker) -> float:
    """Seconds of a load during which a worker has to wait: what others copy from DRAM is in nobody's way."""
    is_own = load.worker.worker_id == worker.worker_id
    node, device = view.nodes[load.worker.node_id], load.worker.device_tier
    parts = ((tier, count) for tier, count in load.missing.items() if is_own or tier > Tier.DRAM)
    links = view.experience.bandwidths
    return sum(links.seconds(tier, count, links.path(node, tier, device)) for tier, count in parts)

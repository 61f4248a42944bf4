"""A cluster as the scheduler's leader knows it: measured nodes, models of many sizes, and where their bytes are."""

import itertools
import random

from kindling.bench.place.options import Size
from kindling.scheduler.domain.planner import Planner
from kindling.scheduler.domain.plans import Limits
from kindling.scheduler.domain.policy import Policy
from kindling.scheduler.domain.values import (
    Checkpoint,
    Instance,
    InstanceState,
    LoadReport,
    Model,
    ModelSettings,
    Node,
    ReportedInstance,
    Residency,
    Tier,
    TierUse,
    Worker,
    WorkerReport,
)
from kindling.scheduler.domain.view import ClusterView

_GB = 10**9
_TYPICAL_BYTES_PER_SECOND = {Tier.GPU: 1e12, Tier.DRAM: 25e9, Tier.SSD: 5e9, Tier.REMOTE: 1.25e9}
_CHECKPOINT_GB = (2, 14, 16, 26, 60, 140)
_CONCURRENCY = 8
_CHUNKS = 16


def build(size: Size, dice: random.Random) -> Planner:
    """A planner whose cluster runs nothing yet; no two nodes are equally fast."""
    numbers = itertools.count()
    planner = Planner(Policy(), Limits(), lambda: f"{next(numbers):08x}")
    nodes = [_node(number, dice) for number in range(size.nodes)]
    models = [_model(number, dice) for number in range(size.models)]
    workers = [worker for node in nodes for worker in _workers(node, size.workers_per_node, dice)]
    planner.view.replace_topology(nodes, workers, _residency(size, nodes, models, dice))
    planner.view.models.become((model.name, model) for model in models)
    for worker in workers:
        planner.view.connect(worker.worker_id, 0.0)
        report(planner.view, worker.worker_id, 0.0)
    return planner


def run_instance(view: ClusterView, model: Model, worker_id: str, number: int, now: float) -> None:
    """Have a model run in a worker, as one that was started long ago."""
    instance = Instance(
        f"{model.name}-{number}", model.name, model.checkpoint.digest, worker_id, InstanceState.READY, report=loaded()
    )
    view.put_instance(instance, now)
    report(view, worker_id, now)


def report(view: ClusterView, worker_id: str, now: float, generation_ids: frozenset[str] = frozenset()) -> None:
    """A worker tells what it runs: the instance that the view says, and its generations."""
    running = tuple(ReportedInstance(one.instance_id, generation_ids) for one in view.instances_on(worker_id))
    view.apply_report(WorkerReport(worker_id, running), now)


def loaded() -> LoadReport:
    """What a worker tells of a start that read little and is complete."""
    return LoadReport(init_seconds=1.0, total_seconds=1.0, complete=True)


def _node(number: int, dice: random.Random) -> Node:
    uses = (
        TierUse(tier, bandwidth_bytes_per_second=typical * dice.uniform(0.7, 1.3))
        for tier, typical in _TYPICAL_BYTES_PER_SECOND.items()
    )
    return Node(f"n{number:05d}", "", tuple(uses))


def _workers(node: Node, count: int, dice: random.Random) -> list[Worker]:
    return [
        Worker(f"{node.node_id}/w{i}", node.node_id, "", f"cuda:{i}", init_seconds=dice.uniform(0.5, 1.5))
        for i in range(count)
    ]


def _model(number: int, dice: random.Random) -> Model:
    checkpoint = Checkpoint(f"blake3:{number:08x}", dice.choice(_CHECKPOINT_GB) * _GB)
    return Model(f"m{number:05d}", checkpoint, ModelSettings(concurrency_target=_CONCURRENCY))


def _residency(size: Size, nodes: list[Node], models: list[Model], dice: random.Random) -> list[Residency]:
    """Every checkpoint on as many nodes: whole on the SSD, or its head; now and then the head in DRAM too."""
    found = []
    for number in range(size.residency):
        checkpoint = models[number % size.models].checkpoint
        ssd = checkpoint.total_bytes * dice.randint(1, _CHUNKS) // _CHUNKS
        dram = ssd * dice.randint(0, _CHUNKS) // _CHUNKS if dice.random() < 1 / 4 else 0
        node = nodes[dice.randrange(size.nodes)]
        found.append(Residency(node.node_id, checkpoint.digest, {Tier.SSD: ssd, Tier.DRAM: dram}))
    return found

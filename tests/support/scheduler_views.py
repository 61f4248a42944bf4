"""Small clusters as values, for tests of the policy."""

import itertools

from kindling.platform.errors import KindlingError, UnavailableError
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
    Request,
    Residency,
    Tier,
    TierUse,
    Worker,
    WorkerReport,
)
from kindling.scheduler.domain.view import ClusterView

GB = 10**9


def model(name: str = "m", total_bytes: int = GB, **settings: float) -> Model:
    return Model(name, Checkpoint(f"blake3:{name}", total_bytes), ModelSettings(**settings))  # type: ignore[arg-type]


def node(node_id: str, **bandwidth: float) -> Node:
    """A node whose tiers were measured at so many bytes per second."""
    uses = (TierUse(Tier[name.upper()], bandwidth_bytes_per_second=speed) for name, speed in bandwidth.items())
    return Node(node_id, f"{node_id}:1", tuple(uses))


def add_node(view: ClusterView, new: Node, workers: int = 1, slots: int = 1, device: str = "cpu") -> list[Worker]:
    """Add a node whose workers have reported that they run nothing."""
    view.nodes[new.node_id] = new
    added = [
        Worker(f"{new.node_id}/w{i}", new.node_id, f"{new.node_id}:{i + 2}", device, slots) for i in range(workers)
    ]
    for worker in added:
        view.workers[worker.worker_id] = worker
        view.connect(worker.worker_id, 0.0)
        report(view, worker.worker_id)
    return added


def report(view: ClusterView, worker_id: str, *generations: str, now: float = 0.0) -> None:
    """Have a worker report that it runs what the view says, the generations in its first instance."""
    names = [instance.instance_id for instance in view.instances_on(worker_id)]
    running = (ReportedInstance(name, frozenset(generations if i == 0 else ())) for i, name in enumerate(names))
    view.apply_report(WorkerReport(worker_id, tuple(running)), now)


def hold(view: ClusterView, node_id: str, of: Model, **held: int) -> None:
    """Have a node hold so many bytes of a model at its tiers."""
    view.put_residency(Residency(node_id, of.checkpoint.digest, {Tier[k.upper()]: v for k, v in held.items()}))


def put(
    view: ClusterView,
    name: str,
    of: Model,
    worker_id: str,
    state: InstanceState = InstanceState.READY,
    now: float = 0.0,
    others: tuple[str, ...] = (),
) -> Instance:
    """Enter an instance that its worker has reported."""
    instance = Instance(
        name, of.name, of.checkpoint.digest, worker_id, state, device_bytes=of.device_bytes, others=others
    )
    view.models.setdefault(of.name, of)
    view.put_instance(instance, now)
    report(view, worker_id, now=now)
    return instance


def planner(**limits: float) -> Planner:
    numbers = itertools.count(1)
    return Planner(Policy(), Limits(**limits), lambda: f"{next(numbers):06x}")  # type: ignore[arg-type]


def ready(of: Planner, instance_id: str, now: float) -> None:
    """Have a start succeed, as the worker and the call both tell."""
    of.outcomes.started(instance_id, LoadReport(init_seconds=0.5), now)
    report(of.view, of.view.instances[instance_id].worker_id, now=now)


def loaded(of: Planner, instance_id: str, now: float) -> None:
    """Have a start succeed with every chunk there."""
    of.outcomes.started(instance_id, LoadReport(init_seconds=0.5, complete=True), now)
    report(of.view, of.view.instances[instance_id].worker_id, now=now)


def request(name: str, model: str = "m", now: float = 0.0, *avoid: str) -> Request:
    return Request(name, model, now, frozenset(avoid))


def trouble() -> KindlingError:
    return UnavailableError("it failed", reason="TEST_FAILED")

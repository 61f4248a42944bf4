"""One strategy on one workload, from the first request to the last."""

from dataclasses import dataclass
from functools import partial

from kindling.platform.errors import InvalidArgumentError
from kindling.scheduler.domain.values import ModelSettings, Tier
from kindling.simulate.events import Events
from kindling.simulate.model_profiles import ModelProfile
from kindling.simulate.node_profiles import NodeProfile
from kindling.simulate.policies import PolicyName, without_kept_tiers
from kindling.simulate.simulated_cluster import Generation, Served, SimulatedCluster
from kindling.simulate.strategies.kindling import KindlingStrategy
from kindling.simulate.strategies.plain import PlainStrategy, nearest_device, random_device
from kindling.simulate.strategies.strategy import Strategy
from kindling.simulate.workload import Workload


@dataclass(frozen=True, slots=True)
class Setup:
    """The machines and the model that every strategy gets."""

    node: NodeProfile
    nodes: int
    model: ModelProfile
    settings: ModelSettings


@dataclass(frozen=True, slots=True)
class Run:
    """What came of it."""

    served: tuple[Served, ...]
    starts_by_tier: dict[Tier, int]
    device_seconds: float


def run(policy: PolicyName, workload: Workload, setup: Setup, seed: int) -> Run:
    """Return what becomes of every request of a workload.

    Raises InvalidArgumentError MODEL_NEEDS_SEVERAL_DEVICES.
    """
    if setup.model.devices > 1:
        message = (
            f"{setup.model.name} takes {setup.model.devices} devices of this kind, and an instance has one as yet; "
            "choose a smaller model or a node profile with larger devices."
        )
        raise InvalidArgumentError(message, reason="MODEL_NEEDS_SEVERAL_DEVICES", field="model_profile")
    node = without_kept_tiers(policy, setup.node)
    cluster = SimulatedCluster(
        Events(), node, setup.nodes, workload.models, setup.model, is_on_ssd=policy.begins_on_ssd
    )
    strategy = _strategy(policy, cluster, setup.settings, seed)
    for number, arrival in enumerate(workload.arrivals):
        generation = Generation(f"generation-{number}", arrival)
        cluster.events.at(arrival.at_seconds, partial(strategy.arrive, generation))
    cluster.events.run()
    cluster.close()
    return Run(tuple(cluster.served), cluster.starts_by_tier, cluster.device_seconds)


def _strategy(policy: PolicyName, cluster: SimulatedCluster, settings: ModelSettings, seed: int) -> Strategy:
    if policy is PolicyName.FULL:
        return KindlingStrategy(cluster, settings)
    choose = nearest_device if policy is PolicyName.LOCALITY else random_device(seed)
    return PlainStrategy(cluster, settings, choose)

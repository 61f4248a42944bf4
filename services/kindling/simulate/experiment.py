"""One strategy on one workload, from the first request to the last."""

import math
from dataclasses import dataclass
from functools import partial

from kindling.platform.errors import InvalidArgumentError
from kindling.scheduler.domain.values import ModelSettings, Tier
from kindling.simulate.events import Events
from kindling.simulate.gang import in_gangs
from kindling.simulate.mechanisms import Mechanism
from kindling.simulate.model_profiles import ModelProfile
from kindling.simulate.node_profiles import NodeProfile
from kindling.simulate.policies import PolicyName, without_kept_tiers
from kindling.simulate.prefetch_tally import PrefetchTally
from kindling.simulate.running import Generation, Served
from kindling.simulate.simulated_cluster import SimulatedCluster
from kindling.simulate.strategies.always_on import AlwaysOnStrategy
from kindling.simulate.strategies.kindling import KindlingStrategy
from kindling.simulate.strategies.plain import PlainStrategy, nearest_device, random_device
from kindling.simulate.strategies.preempting import PreemptingStrategy
from kindling.simulate.strategies.strategy import Strategy
from kindling.simulate.workload import Workload

CONTEXT_TOKENS = 2048
"""Of a generation, for which memory is kept free of parked weights."""


@dataclass(frozen=True, slots=True)
class Setup:
    """The machines and the model that every strategy gets."""

    node: NodeProfile
    nodes: int
    model: ModelProfile
    settings: ModelSettings


@dataclass(frozen=True, slots=True)
class Variant:
    """A strategy with what it has beyond choosing a place; ``mechanisms`` are Kindling's alone."""

    policy: PolicyName
    mechanisms: frozenset[Mechanism] = frozenset()
    label: str = ""

    @property
    def name(self) -> str:
        """What reports call it."""
        return self.label or self.policy.value


@dataclass(frozen=True, slots=True)
class Run:
    """What came of it, by the time of arrival."""

    served: tuple[Served, ...]
    starts_by_tier: dict[Tier, int]
    device_seconds: float
    migrations: int
    preemptions: int
    prefetched: PrefetchTally
    copied: PrefetchTally


def run(variant: Variant, workload: Workload, setup: Setup, seed: int) -> Run:
    """Return what becomes of every request of a workload.

    Raises InvalidArgumentError NO_REQUESTS or MODEL_NEEDS_MORE_DEVICES.
    """
    if not workload.arrivals:
        message = f"No request comes in {workload.name}, seed {seed}; give a higher rate or a longer duration."
        raise InvalidArgumentError(message, reason="NO_REQUESTS")
    cluster = _cluster(variant, workload, setup)
    strategy = _strategy(variant.policy, cluster, setup, seed)
    for number, arrival in enumerate(workload.arrivals):
        generation = Generation(f"generation-{number}", arrival)
        cluster.events.at(arrival.at_seconds, partial(strategy.arrive, generation))
    cluster.events.run()
    cluster.close()
    served = sorted(cluster.served, key=lambda one: one.arrival.at_seconds)
    return Run(
        tuple(served),
        cluster.starts_by_tier,
        cluster.device_seconds,
        cluster.migrations,
        cluster.preemptions,
        cluster.prefetched,
        cluster.copied,
    )


def _cluster(variant: Variant, workload: Workload, setup: Setup) -> SimulatedCluster:
    node = in_gangs(without_kept_tiers(variant.policy, setup.node), setup.model)
    nodes = setup.nodes
    if variant.policy.has_device_per_model:
        nodes = math.ceil(len(workload.models) / node.devices)
    return SimulatedCluster(
        Events(),
        node,
        nodes,
        workload.models,
        setup.model,
        is_on_ssd=variant.policy.begins_on_ssd,
        mechanisms=variant.mechanisms,
        kv_bytes=setup.model.kv_bytes_per_token * CONTEXT_TOKENS * setup.settings.concurrency_target,
    )


def _strategy(policy: PolicyName, cluster: SimulatedCluster, setup: Setup, seed: int) -> Strategy:
    settings = setup.settings
    if policy is PolicyName.FULL:
        return KindlingStrategy(cluster, settings)
    if policy is PolicyName.ALWAYS_ON:
        return AlwaysOnStrategy(cluster, settings)
    if policy is PolicyName.POOLED:
        places = setup.nodes * cluster.profile.devices * settings.concurrency_target
        return AlwaysOnStrategy(cluster, settings, pooled_places=places)
    if policy is PolicyName.PREEMPTING:
        return PreemptingStrategy(cluster, settings)
    choose = nearest_device if policy is PolicyName.LOCALITY else random_device(seed)
    return PlainStrategy(cluster, settings, choose)

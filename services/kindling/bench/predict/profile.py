"""The measured profile of machine and model, as the simulator takes it."""

import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from kindling.bench.model import Shape
from kindling.bench.predict.bench_cluster import CONCURRENCY, Node
from kindling.bench.predict.calibrate import Calibration
from kindling.bench.predict.options import CHUNK_BYTES, PredictOptions
from kindling.platform.errors import FailedPreconditionError
from kindling.scheduler.domain.values import ModelSettings, Tier
from kindling.simulate.experiment import Setup
from kindling.simulate.model_profiles import ModelProfile
from kindling.simulate.node_profiles import local_machine
from kindling.v1 import cluster_pb2

CPU_PROMPT_TOKENS_BESIDE = 64
"""As the worker's engine has it, whose module would bring torch along."""
_SSD_BYTES = 1 << 40  # more than enough: every model is on the SSD
NOTHING_YET: Mapping[Tier, int] = {}


@dataclass(frozen=True, slots=True)
class Profile:
    """Links and the time to build a model as the cluster's scheduler has learned them, the rest as calibrated."""

    links: Mapping[Tier, float]
    init_seconds: float
    calibration: Calibration

    def setup(self, node: Node, checkpoint_bytes: int, options: PredictOptions) -> Setup:
        """The machine and the model that the simulator gets.

        Raises InvalidArgumentError LINK_NOT_MEASURED.
        """
        machine = local_machine(
            self.links,
            workers=node.workers,
            dram_pool_bytes=node.pool_bytes,
            ssd_bytes=_SSD_BYTES,
            init_seconds=self.init_seconds,
            parked_seconds=self.calibration.parked_seconds,
            chunk_bytes=CHUNK_BYTES,
        )
        settings = ModelSettings(concurrency_target=CONCURRENCY, keep_alive_seconds=options.keep_alive_seconds)
        return Setup(machine, 1, self._model(checkpoint_bytes, options.shape), settings)

    def _model(self, checkpoint_bytes: int, shape: Shape) -> ModelProfile:
        return ModelProfile(
            name="bench",
            checkpoint_bytes=checkpoint_bytes,
            layers=shape.layers,
            prefill_tokens_per_second=self.calibration.prefill_tokens_per_second,
            seconds_per_token=self.calibration.seconds_per_token,
            kv_bytes_per_token=shape.kv_bytes_per_token,
            prompt_tokens_beside=CPU_PROMPT_TOKENS_BESIDE,
            seconds_per_token_beside=self.calibration.seconds_per_token_beside,
        )


def learned(status: cluster_pb2.GetClusterStatusResponse, calibration: Calibration) -> Profile:
    """Return the profile that a status with estimates tells of.

    Raises FailedPreconditionError NOTHING_LEARNED if no model has been built.
    """
    if not status.estimates.inits:
        message = "The scheduler has seen no model being built, so that nothing can be foretold; see its log."
        raise FailedPreconditionError(message, reason="NOTHING_LEARNED")
    links = {Tier(one.tier): one.bandwidth_bytes_per_second for node in status.nodes for one in node.tiers}
    links |= {Tier(one.tier): one.bytes_per_second for one in status.estimates.links}
    return Profile(links, statistics.median(one.seconds for one in status.estimates.inits), calibration)


def starts_by_tier(status: cluster_pb2.GetClusterStatusResponse) -> Counter[Tier]:
    """How many starts are over, by the slowest tier that they came from."""
    return Counter({tier: len(errors) for tier, errors in startup_errors(status).items()})


def startup_errors(
    status: cluster_pb2.GetClusterStatusResponse, before: Mapping[Tier, int] = NOTHING_YET
) -> dict[Tier, list[float]]:
    """The errors of the estimates that starts were decided by, but for the first ``before`` of each tier."""
    startups = (one for one in status.estimates.qualities if one.kind == cluster_pb2.ESTIMATE_KIND_STARTUP)
    by_tier = {Tier(getattr(one, "from")): list(one.errors) for one in startups if not one.node_id}
    return {tier: errors[before.get(tier, 0) :] for tier, errors in by_tier.items()}

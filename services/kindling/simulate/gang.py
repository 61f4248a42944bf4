"""Models that take several devices."""

from dataclasses import replace

from kindling.platform.errors import InvalidArgumentError
from kindling.scheduler.domain.values import Tier
from kindling.simulate.model_profiles import ModelProfile
from kindling.simulate.node_profiles import NodeProfile


def in_gangs(node: NodeProfile, model: ModelProfile) -> NodeProfile:
    """Return a node whose devices are joined for a model: each has the memory and the links to DRAM of several.

    The same gangs for good, which is all that models of one size need.

    Raises InvalidArgumentError MODEL_NEEDS_MORE_DEVICES if the node has fewer.
    """
    if model.devices > node.devices:
        message = (
            f"{model.name} takes {model.devices} devices of this kind, but {node.name} has {node.devices}; "
            "choose a smaller model or a node profile with larger devices."
        )
        raise InvalidArgumentError(message, reason="MODEL_NEEDS_MORE_DEVICES", field="model_profile")
    links = dict(node.bandwidth_bytes_per_second)
    if Tier.DRAM in links:
        links[Tier.DRAM] *= model.devices
    return replace(
        node,
        devices=node.devices // model.devices,
        device_memory_bytes=node.device_memory_bytes * model.devices,
        bandwidth_bytes_per_second=links,
    )

"""The strategies by name, and which tiers each of them keeps checkpoints in."""

import enum
from dataclasses import replace

from kindling.simulate.node_profiles import NodeProfile


class PolicyName(enum.StrEnum):
    """How requests get an instance."""

    FULL = "full"  # Kindling's planner
    RANDOM = "random"  # any device; nodes keep checkpoints in DRAM and on the SSD all the same
    LOCALITY = "locality"  # a device where the checkpoint is nearest, waiting for one if need be
    PREEMPTING = "preempting"  # the same, but what generates there gives way, as Shepherd does it
    DOWNLOAD = "download"  # any device; each start downloads, as Ray Serve does
    DOWNLOAD_CACHED = "download-cached"  # any device; what a node downloaded once is on its SSD
    ALWAYS_ON = "always-on"  # a device for each model, as many as that takes: to compare the cost
    POOLED = "pooled"  # as many places, each of which serves every model at once: a floor, not a system

    @property
    def begins_on_ssd(self) -> bool:
        """Whether checkpoints were put on the nodes' SSDs when they were deployed."""
        return self not in (PolicyName.DOWNLOAD, PolicyName.DOWNLOAD_CACHED)

    @property
    def is_baseline(self) -> bool:
        """Whether it is what a user would otherwise have on the same devices."""
        return self is not PolicyName.FULL and not self.has_device_per_model

    @property
    def has_device_per_model(self) -> bool:
        """Whether every model is loaded all the time, on as many devices as that takes."""
        return self in (PolicyName.ALWAYS_ON, PolicyName.POOLED)


def without_kept_tiers(policy: PolicyName, profile: NodeProfile) -> NodeProfile:
    """Return a node profile without the tiers in which a policy keeps nothing."""
    if policy is PolicyName.DOWNLOAD:
        return replace(profile, dram_pool_bytes=0, ssd_bytes=0)
    return replace(profile, dram_pool_bytes=0) if policy is PolicyName.DOWNLOAD_CACHED else profile

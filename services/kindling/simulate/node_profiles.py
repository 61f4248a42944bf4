"""Machines: how many devices, how large the tiers are and how fast the links between them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from kindling.platform.errors import InvalidArgumentError, NotFoundError
from kindling.scheduler.domain.values import Tier
from kindling.simulate.device_kinds import GIB, device_kind
from kindling.simulate.mechanisms import CHUNK_BYTES, PARKED_SECONDS

PCIE_4_X16: Final = 31.5e9
"""Bytes per second after the line code: 16 lanes of 16 GT/s, 128b/130b."""
PCIE_5_X16: Final = 63.0e9
PINNED_COPY_SHARE: Final = 0.8
"""Assumed share of PCIe's line rate that copies from pinned memory reach."""
NVME_BYTES_PER_SECOND: Final = 6e9
"""One PCIe 4.0 drive; half of the 12 GB/s that the paper reads from its two in RAID 0."""
GBIT: Final = 1e9 / 8
ETHERNET_SHARE: Final = 1448 / 1538
"""Payload of a full TCP segment over what it occupies on the wire, frames of 1,500 bytes."""
POOL_SHARE: Final = 0.75
"""Assumed share of a machine's memory that the chunk pool takes; the paper does not say."""
INIT_SECONDS: Final = 0.5
"""Assumed time to build a model; the skeleton of one of half a billion parameters took 0.56 s on two cores."""


@dataclass(frozen=True, slots=True)
class NodeProfile:
    """A kind of machine.

    ``bandwidth_bytes_per_second`` is that of the link *from* a tier up: DRAM to a device, for each device by itself;
    SSD to DRAM and REMOTE to SSD shared by the node. A node whose device is the CPU has no link from DRAM: it computes
    on the pool as it is.
    """

    name: str
    devices: int
    device_kind: str
    device_memory_bytes: int
    dram_pool_bytes: int
    ssd_bytes: int
    bandwidth_bytes_per_second: Mapping[Tier, float]
    init_seconds: float
    parked_seconds: float = PARKED_SECONDS
    chunk_bytes: int = CHUNK_BYTES

    @property
    def computes_on_pool(self) -> bool:
        """Whether the device is the CPU: what it has parked is in the pool, and nowhere else."""
        return Tier.DRAM not in self.bandwidth_bytes_per_second


def _links(pcie: float, drives: int, network_gbit: float) -> Mapping[Tier, float]:
    return {
        Tier.DRAM: pcie * PINNED_COPY_SHARE,
        Tier.SSD: drives * NVME_BYTES_PER_SECOND,
        Tier.REMOTE: network_gbit * GBIT * ETHERNET_SHARE,
    }


def _machine(
    name: str, devices: int, kind: str, memory_gib: int, ssd_bytes: float, links: Mapping[Tier, float]
) -> NodeProfile:
    return NodeProfile(
        name=name,
        devices=devices,
        device_kind=kind,
        device_memory_bytes=device_kind(kind).memory_bytes,
        dram_pool_bytes=int(memory_gib * GIB * POOL_SHARE),
        ssd_bytes=int(ssd_bytes),
        bandwidth_bytes_per_second=links,
        init_seconds=INIT_SECONDS,
    )


NODE_PROFILES: Final = {
    node.name: node
    for node in (
        # ServerlessLLM (OSDI 2024), test bed (i), one server: 8 A5000, 1 TB DDR4, two PCIe 4.0 NVMe drives of 4 TB in
        # RAID 0, models in an object store behind 1 Gbps.
        _machine("paper-a5000", 8, "A5000", 1024, 8e12, _links(PCIE_4_X16, drives=2, network_gbit=1)),
        # Test bed (ii), each of four servers: 4 A40, 512 GB DDR4, one PCIe 4.0 NVMe drive of 2 TB, 10 Gbps.
        _machine("paper-a40", 4, "A40", 512, 2e12, _links(PCIE_4_X16, drives=1, network_gbit=10)),
        # As an NVIDIA DGX H100 is described: 2 TB of memory, eight NVMe drives of 3.84 TB; 100 Gbps to the models are
        # assumed.
        _machine("h100-box", 8, "H100", 2048, 8 * 3.84e12, _links(PCIE_5_X16, drives=8, network_gbit=100)),
    )
}


def node_profile(name: str) -> NodeProfile:
    """Return a machine of the catalogue.

    Raises NotFoundError NODE_PROFILE_UNKNOWN.
    """
    if (profile := NODE_PROFILES.get(name)) is None:
        message = f"The simulator knows no machine {name!r}; it knows {', '.join(NODE_PROFILES)}."
        raise NotFoundError(message, reason="NODE_PROFILE_UNKNOWN", metadata={"node": name})
    return profile


def local_machine(
    measured: Mapping[Tier, float],
    *,
    workers: int,
    dram_pool_bytes: int,
    ssd_bytes: int,
    init_seconds: float,
    parked_seconds: float = PARKED_SECONDS,
    chunk_bytes: int = CHUNK_BYTES,
) -> NodeProfile:
    """Return this machine as measured: workers on the CPU, which compute on the pool, and measured bytes per second.

    Raises InvalidArgumentError LINK_NOT_MEASURED unless the links from SSD and REMOTE have been measured.
    """
    for tier in (Tier.SSD, Tier.REMOTE):
        if not measured.get(tier, 0.0) > 0:
            message = f"The link from {tier.name} has no measured speed; measure it, or give one in bytes per second."
            raise InvalidArgumentError(message, reason="LINK_NOT_MEASURED", metadata={"tier": tier.name})
    return NodeProfile(
        name="local",
        devices=workers,
        device_kind="cpu",
        device_memory_bytes=dram_pool_bytes,
        dram_pool_bytes=dram_pool_bytes,
        ssd_bytes=ssd_bytes,
        bandwidth_bytes_per_second={tier: measured[tier] for tier in (Tier.SSD, Tier.REMOTE)},
        init_seconds=init_seconds,
        parked_seconds=parked_seconds,
        chunk_bytes=chunk_bytes,
    )

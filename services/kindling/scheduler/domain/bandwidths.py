"""How fast bytes come out of the tiers of each node."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kindling.scheduler.domain.rates import LearnedRate
from kindling.scheduler.domain.values import Node, Tier

MIN_SAMPLE_BYTES = 1 << 20  # less measures latency
FULL_SAMPLE_BYTES = 64 << 20  # more tells no more
_LEAST_SECONDS = 1e-6
# Before anything was measured.
_ASSUMED: Mapping[Tier, float] = {Tier.GPU: 100e9, Tier.DRAM: 10e9, Tier.SSD: 1e9, Tier.REMOTE: 0.2e9}


@dataclass(frozen=True, slots=True)
class LearnedLink:
    """What ``loads`` have taught about a node's tier, its measurement taken into account."""

    node_id: str
    tier: Tier
    measured_bytes_per_second: float
    bytes_per_second: float
    loads: int


class Bandwidths:
    """Begins with what each storage manager measured, and learns from every load."""

    def __init__(self) -> None:
        self._links: dict[tuple[str, Tier], LearnedRate] = {}

    def learn(self, node_id: str, tier: Tier, size_bytes: int, seconds: float) -> None:
        """Take in what a load read from a tier and for how long; what is too little to tell is left out."""
        if size_bytes >= MIN_SAMPLE_BYTES and seconds > 0:
            link = self._links.setdefault((node_id, tier), LearnedRate())
            link.add(size_bytes / max(seconds, _LEAST_SECONDS), size_bytes / FULL_SAMPLE_BYTES)

    def known(self, node: Node, tier: Tier) -> float | None:
        """Bytes per second out of a tier; none if it was neither measured nor used."""
        measured = node.measured_bandwidth(tier) or None
        link = self._links.get((node.node_id, tier))
        return link.value(measured) if link else measured

    def path(self, node: Node, source: Tier, device: Tier) -> float:
        """Bytes per second of the slowest tier from ``source`` up to a device that computes on the tier ``device``."""
        return min(self.known(node, tier) or _ASSUMED[tier] for tier in Tier if device < tier <= source)

    def learned(self, node: Node) -> Iterator[LearnedLink]:
        """What loads have taught about a node's tiers, the fastest first."""
        for tier in Tier:
            if (link := self._links.get((node.node_id, tier))) is not None:
                known = self.known(node, tier) or 0.0
                yield LearnedLink(node.node_id, tier, node.measured_bandwidth(tier), known, link.count)

"""How fast bytes come out of the tiers of each node."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kindling.scheduler.domain.rates import LearnedRate
from kindling.scheduler.domain.values import Node, Tier

MIN_SAMPLE_BYTES = 1 << 20  # less measures latency
FULL_SAMPLE_BYTES = 64 << 20  # more tells no more
_LEAST_SECONDS = 1e-6
_SHORT_SECONDS = 0.02  # a read that took longer tells less of what a read takes besides its bytes
# Before anything was measured.
_ASSUMED: Mapping[Tier, float] = {Tier.GPU: 100e9, Tier.DRAM: 10e9, Tier.SSD: 1e9, Tier.REMOTE: 0.2e9}
_LINKS: Mapping[tuple[Tier, Tier], tuple[Tier, ...]] = {
    (source, device): tuple(tier for tier in sorted({Tier.DRAM, source}) if device < tier <= source)
    for source in Tier
    for device in Tier
}


@dataclass(frozen=True, slots=True)
class LearnedLink:
    """What ``loads`` have taught about a node's tier, its measurement taken into account.

    ``latency_seconds`` is what reads from such tiers of all nodes take besides their bytes.
    """

    node_id: str
    tier: Tier
    measured_bytes_per_second: float
    bytes_per_second: float
    loads: int
    latency_seconds: float = 0.0


class Bandwidths:
    """Begins with what each storage manager measured, and learns from every load.

    Reading takes ``bytes / bandwidth + latency``: a bandwidth for each node and tier, which long reads tell, and a
    latency for each kind of tier, which short ones do. It is the cluster's, not the node's, so that the order of nodes
    by bandwidth is that by time.
    """

    def __init__(self) -> None:
        self._links: dict[tuple[str, Tier], LearnedRate] = {}
        self._latencies = {tier: LearnedRate(steady=True) for tier in Tier if tier > Tier.DRAM}

    def learn(self, node: Node, tier: Tier, size_bytes: int, seconds: float) -> None:
        """Take in what a load read from a tier and for how long."""
        if not size_bytes or seconds <= 0:
            return
        if size_bytes >= MIN_SAMPLE_BYTES:
            link = self._links.setdefault((node.node_id, tier), LearnedRate())
            link.add(size_bytes / max(seconds, _LEAST_SECONDS), size_bytes / FULL_SAMPLE_BYTES)
        if tier in self._latencies and (known := self.known(node, tier)):
            self._latencies[tier].add(max(0.0, seconds - size_bytes / known), _SHORT_SECONDS / seconds)

    def seconds(self, tier: Tier, size_bytes: int, bytes_per_second: float) -> float:
        """Return how long reading from a tier takes at a bandwidth; reading nothing takes no time."""
        return size_bytes / bytes_per_second + self._latency(tier) if size_bytes else 0.0

    def _latency(self, tier: Tier) -> float:
        latency = self._latencies.get(tier)
        return latency.value() or 0.0 if latency else 0.0

    def known(self, node: Node, tier: Tier) -> float | None:
        """Bytes per second out of a tier; none if it was neither measured nor used."""
        measured = node.measured_bandwidth(tier) or None
        link = self._links.get((node.node_id, tier))
        return link.value(measured) if link else measured

    def path(self, node: Node, source: Tier, device: Tier) -> float:
        """Bytes per second of the slowest link from ``source`` to a device that computes on the tier ``device``.

        What comes from REMOTE goes to DRAM at once; that it is kept on the SSD too is in nobody's way.
        """
        return min([self.known(node, tier) or _ASSUMED[tier] for tier in _LINKS[source, device]])

    def learned(self, node: Node) -> Iterator[LearnedLink]:
        """What loads have taught about a node's tiers, the fastest first."""
        for tier in Tier:
            if (link := self._links.get((node.node_id, tier))) is not None:
                known = self.known(node, tier) or 0.0
                measured = node.measured_bandwidth(tier)
                yield LearnedLink(node.node_id, tier, measured, known, link.count, self._latency(tier))

"""Where the bytes of each checkpoint are."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from kindling.scheduler.domain.values import Residency, Tier


class Holders:
    """Residency by node and checkpoint, the nodes that hold each checkpoint, and the workers that have it parked.

    All of it changes in O(1) for each entry.
    """

    def __init__(self) -> None:
        self._entries: defaultdict[str, dict[str, Residency]] = defaultdict(dict)  # by digest, then node
        self._at = {tier: _Contents() for tier in (Tier.DRAM, Tier.SSD)}
        self._parked_in: defaultdict[str, set[str]] = defaultdict(set)  # workers, by digest
        self._parked: dict[str, frozenset[str]] = {}  # digests, by worker

    def become(self, entries: Iterable[Residency]) -> None:
        """Take over what nodes hold, whole."""
        self._entries.clear()
        self._at = {tier: _Contents() for tier in self._at}
        for entry in entries:
            self.put(entry)

    def put(self, entry: Residency) -> None:
        """A node holds so much of a checkpoint."""
        self._entries[entry.digest][entry.node_id] = entry
        for tier, contents in self._at.items():
            contents.put(entry.node_id, entry.digest, entry.bytes_by_tier.get(tier, 0))

    def remove(self, node_id: str, digest: str) -> None:
        """A node holds nothing of a checkpoint any more."""
        entries = self._entries.get(digest, {})
        entries.pop(node_id, None)
        if not entries:
            self._entries.pop(digest, None)
        for contents in self._at.values():
            contents.put(node_id, digest, 0)

    def held(self, node_id: str, digest: str) -> Mapping[Tier, int]:
        """Bytes of a checkpoint that each tier of a node holds, from its head."""
        entry = self._entries.get(digest, {}).get(node_id)
        return entry.bytes_by_tier if entry else {}

    def nodes(self, digest: str) -> Iterable[str]:
        """The nodes that hold something of a checkpoint."""
        return self._entries.get(digest, {}).keys()

    def in_dram(self, node_id: str) -> Iterable[str]:
        """The checkpoints of which a node's DRAM holds something."""
        return self._at[Tier.DRAM].of(node_id).keys()

    def on_ssd(self, node_id: str) -> Iterable[str]:
        """The checkpoints of which a node's SSD holds a copy."""
        return self._at[Tier.SSD].of(node_id).keys()

    def on_ssd_bytes(self, node_id: str) -> int:
        """Bytes of all copies on a node's SSD."""
        return self._at[Tier.SSD].total_bytes(node_id)

    def park(self, worker_id: str, digests: frozenset[str]) -> None:
        """A worker has these checkpoints parked, and no others."""
        before = self._parked.pop(worker_id, frozenset())
        for digest in before - digests:
            self._parked_in[digest].discard(worker_id)
            if not self._parked_in[digest]:
                del self._parked_in[digest]
        for digest in digests - before:
            self._parked_in[digest].add(worker_id)
        if digests:
            self._parked[worker_id] = digests

    def has_parked(self, worker_id: str, digest: str) -> bool:
        """Whether a worker keeps a checkpoint ready to start at once."""
        return digest in self._parked.get(worker_id, ())

    def parked_in(self, digest: str) -> Iterable[str]:
        """The workers that keep a checkpoint ready to start at once."""
        return self._parked_in.get(digest, ())

    def check_integrity(self) -> None:
        """Raise AssertionError if the indexes do not say the same."""
        entries = [entry for nodes in self._entries.values() for entry in nodes.values()]
        for tier, contents in self._at.items():
            contents.check_integrity({(one.node_id, one.digest): one.bytes_by_tier.get(tier, 0) for one in entries})
        parked = {(worker_id, digest) for worker_id, digests in self._parked.items() for digest in digests}
        assert parked == {(worker_id, digest) for digest, ids in self._parked_in.items() for worker_id in ids}
        assert all(self._entries.values()), "nothing is kept of a checkpoint that no node holds"


class _Contents:
    """What one tier holds, by node: bytes by checkpoint, and all of them together."""

    def __init__(self) -> None:
        self._by_node: defaultdict[str, dict[str, int]] = defaultdict(dict)
        self._totals: Counter[str] = Counter()

    def of(self, node_id: str) -> Mapping[str, int]:
        return self._by_node.get(node_id, {})

    def total_bytes(self, node_id: str) -> int:
        return self._totals[node_id]

    def put(self, node_id: str, digest: str, size_bytes: int) -> None:
        there = self._by_node[node_id]
        self._totals[node_id] += size_bytes - there.get(digest, 0)
        if size_bytes:
            there[digest] = size_bytes
        else:
            there.pop(digest, None)
        if not there:
            del self._by_node[node_id], self._totals[node_id]

    def check_integrity(self, expected: Mapping[tuple[str, str], int]) -> None:
        held = {(node_id, digest): size for node_id, there in self._by_node.items() for digest, size in there.items()}
        assert held == {place: size for place, size in expected.items() if size}
        assert self._totals == {node_id: sum(there.values()) for node_id, there in self._by_node.items()}

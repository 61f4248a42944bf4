"""Where the bytes of each checkpoint are."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from kindling.scheduler.domain.values import Residency, Tier


class Holders:
    """Residency by node and checkpoint, the nodes that hold each checkpoint, and the workers that have it parked.

    All of it changes in O(1) for each entry.
    """

    def __init__(self) -> None:
        self._entries: defaultdict[str, dict[str, Residency]] = defaultdict(dict)  # by digest, then node
        self._in_dram: defaultdict[str, dict[str, None]] = defaultdict(dict)  # digests, by node
        self._parked_in: defaultdict[str, set[str]] = defaultdict(set)  # workers, by digest
        self._parked: dict[str, frozenset[str]] = {}  # digests, by worker

    def become(self, entries: Iterable[Residency]) -> None:
        """Take over what nodes hold, whole."""
        self._entries.clear()
        self._in_dram.clear()
        for entry in entries:
            self.put(entry)

    def put(self, entry: Residency) -> None:
        """A node holds so much of a checkpoint."""
        self._entries[entry.digest][entry.node_id] = entry
        if entry.bytes_by_tier.get(Tier.DRAM, 0):
            self._in_dram[entry.node_id][entry.digest] = None
        else:
            self._leave_dram(entry.node_id, entry.digest)

    def remove(self, node_id: str, digest: str) -> None:
        """A node holds nothing of a checkpoint any more."""
        entries = self._entries.get(digest, {})
        entries.pop(node_id, None)
        if not entries:
            self._entries.pop(digest, None)
        self._leave_dram(node_id, digest)

    def held(self, node_id: str, digest: str) -> Mapping[Tier, int]:
        """Bytes of a checkpoint that each tier of a node holds, from its head."""
        entry = self._entries.get(digest, {}).get(node_id)
        return entry.bytes_by_tier if entry else {}

    def nodes(self, digest: str) -> Iterable[str]:
        """The nodes that hold something of a checkpoint."""
        return self._entries.get(digest, {}).keys()

    def in_dram(self, node_id: str) -> Iterable[str]:
        """The checkpoints of which a node's DRAM holds something."""
        return self._in_dram.get(node_id, {}).keys()

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

    def _leave_dram(self, node_id: str, digest: str) -> None:
        self._in_dram.get(node_id, {}).pop(digest, None)
        if not self._in_dram.get(node_id):
            self._in_dram.pop(node_id, None)

    def check_integrity(self) -> None:
        """Raise AssertionError if the indexes do not say the same."""
        entries = (entry for nodes in self._entries.values() for entry in nodes.values())
        in_dram = {(one.node_id, one.digest) for one in entries if one.bytes_by_tier.get(Tier.DRAM, 0)}
        assert in_dram == {(node_id, digest) for node_id, there in self._in_dram.items() for digest in there}
        parked = {(worker_id, digest) for worker_id, digests in self._parked.items() for digest in digests}
        assert parked == {(worker_id, digest) for digest, ids in self._parked_in.items() for worker_id in ids}
        assert all(self._entries.values()), "nothing is kept of a checkpoint that no node holds"

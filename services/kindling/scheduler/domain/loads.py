"""The loads that nodes have begun, in the order in which they were decided."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from kindling.scheduler.domain.values import Instance, LoadProgress, Tier, Worker


@dataclass(frozen=True, slots=True)
class Load:
    """What a start has yet to bring, by the tier it is at, as of ``told_at``."""

    worker: Worker
    digest: str
    missing: Mapping[Tier, int]
    told_at: float


class Loads:
    """Loads under way, by node. A storage manager does them one after the other; copies from DRAM to a device are the
    worker's own."""

    def __init__(self) -> None:
        self._by_node: defaultdict[str, dict[str, Load]] = defaultdict(dict)  # by instance then
        self._by_digest: defaultdict[str, dict[str, str]] = defaultdict(dict)  # nodes, by instance then

    def __contains__(self, instance: Instance) -> bool:
        return instance.instance_id in self._by_node.get(instance.node_id, ())

    def begin(self, instance: Instance, load: Load) -> None:
        """An instance's load is decided; it is the last one of its node."""
        self._by_node[instance.node_id][instance.instance_id] = load
        self._by_digest[load.digest][instance.instance_id] = instance.node_id

    def advance(self, instance: Instance, progress: LoadProgress, now: float) -> None:
        """Take in how far a load has come; one that is not known is ignored."""
        loads = self._by_node.get(instance.node_id, {})
        if progress.total_bytes and (load := loads.get(instance.instance_id)) is not None:
            left_bytes = max(0, progress.total_bytes - progress.loaded_bytes)
            loads[instance.instance_id] = replace(load, missing=_tail(load.missing, left_bytes), told_at=now)

    def end(self, instance: Instance) -> None:
        """A load is over, one way or the other; one that is not known is ignored."""
        loads = self._by_node.get(instance.node_id, {})
        load = loads.pop(instance.instance_id, None)
        if not loads:
            self._by_node.pop(instance.node_id, None)
        if load is not None:
            del self._by_digest[load.digest][instance.instance_id]
            if not self._by_digest[load.digest]:
                del self._by_digest[load.digest]

    def on_node(self, node_id: str) -> Collection[Load]:
        """A node's loads, the first first."""
        return self._by_node[node_id].values() if node_id in self._by_node else ()

    def nodes_of(self, digest: str) -> Collection[str]:
        """The nodes that load a checkpoint."""
        return self._by_digest[digest].values() if digest in self._by_digest else ()

    def check_integrity(self) -> None:
        """Raise AssertionError if a load is not found by its checkpoint, or one that is over is."""
        by_node = {(name, load.digest, node) for node, loads in self._by_node.items() for name, load in loads.items()}
        found = {(name, digest, node) for digest, nodes in self._by_digest.items() for name, node in nodes.items()}
        assert by_node == found


def missing_by_tier(held: Mapping[Tier, int], total_bytes: int, device: Tier) -> dict[Tier, int]:
    """Bytes not yet at the tier ``device``, by the fastest that has them; every tier holds a head of the checkpoint."""
    covered = 0
    missing: dict[Tier, int] = {}
    for tier in Tier:
        end = total_bytes if tier is Tier.REMOTE else min(held.get(tier, 0), total_bytes)
        if end > covered and tier > device:
            missing[tier] = end - covered
        covered = max(covered, end)
    return missing


def _tail(missing: Mapping[Tier, int], left_bytes: int) -> dict[Tier, int]:
    """The last ``left_bytes`` of what was missing: the heads, at faster tiers, come first."""
    tail: dict[Tier, int] = {}
    for tier in sorted(missing, reverse=True):
        if part := min(missing[tier], left_bytes):
            tail[tier] = part
            left_bytes -= part
    return tail

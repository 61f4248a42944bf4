"""The workers that have a free slot, in the orders in which a search for the best of them looks at them."""

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from kindling.scheduler.domain.ranking import Ranking
from kindling.scheduler.domain.values import Tier, Worker


class Group(NamedTuple):
    """Workers that differ, for what none of them has, in ``Offer.speed`` and ``Offer.init_seconds`` alone.

    Nodes with loads under way are apart: a start there waits as well.
    """

    is_loading: bool
    device_tier: Tier
    device_kind: str
    is_measured: bool  # whether there are init_seconds


@dataclass(frozen=True, slots=True)
class Offer:
    """A worker with a free slot; ``speed`` is the bytes per second from the remote store to its device.

    ``free_bytes`` of the device's memory nobody needs; endless if the worker does not tell how much there is.
    """

    worker: Worker
    speed: float
    group: Group
    free_bytes: float = math.inf

    def holds(self, needed_bytes: int) -> bool:
        """Whether there is memory for so many bytes of weights."""
        return needed_bytes <= self.free_bytes


class _Walks:
    """The offers of a group: the fastest first, and those first that build models soonest."""

    def __init__(self) -> None:
        self.fastest = Ranking[tuple[float, float]]()
        self.quickest = Ranking[tuple[float, float]]()

    def put(self, offer: Offer) -> None:
        worker = offer.worker
        self.fastest.put(worker.worker_id, (-offer.speed, worker.init_seconds))
        self.quickest.put(worker.worker_id, (worker.init_seconds, -offer.speed))

    def drop(self, worker_id: str) -> None:
        self.fastest.drop(worker_id)
        self.quickest.drop(worker_id)


class FreeSlots:
    """Answers which workers can take a start, whole or on a node, in O(log n) for each that is looked at."""

    def __init__(self) -> None:
        self._offers: dict[str, Offer] = {}
        self._on_node: defaultdict[str, dict[str, Offer]] = defaultdict(dict)
        self._walks: dict[Group, _Walks] = {}

    def __contains__(self, worker_id: str) -> bool:
        return worker_id in self._offers

    def __bool__(self) -> bool:
        return bool(self._offers)

    def put(self, worker: Worker, speed: float, is_loading: bool, free_bytes: float = math.inf) -> None:
        """A worker has a free slot, reached at ``speed``; its node is loading or not."""
        group = Group(is_loading, worker.device_tier, worker.device_kind, worker.init_seconds > 0)
        offer = Offer(worker, speed, group, free_bytes)
        known = self._offers.get(worker.worker_id)
        if offer == known:
            return
        if known is not None and known.group != group:
            self._walks[known.group].drop(worker.worker_id)
        self._offers[worker.worker_id] = self._on_node[worker.node_id][worker.worker_id] = offer
        self._walks.setdefault(group, _Walks()).put(offer)

    def drop(self, worker_id: str) -> None:
        """A worker has no free slot, or can start nothing; one that is not known is ignored."""
        offer = self._offers.pop(worker_id, None)
        if offer is not None:
            del self._on_node[offer.worker.node_id][worker_id]
            self._walks[offer.group].drop(worker_id)

    def offer(self, worker_id: str) -> Offer | None:
        """The offer of a worker; none if it has no free slot."""
        return self._offers.get(worker_id)

    def has_room(self, worker_id: str, needed_bytes: int) -> bool:
        """Whether a worker has a free slot, and its device so much memory."""
        offer = self._offers.get(worker_id)
        return offer is not None and offer.holds(needed_bytes)

    def on_node(self, node_id: str) -> list[Offer]:
        """A node's offers, by worker."""
        return [offer for _, offer in sorted(self._on_node.get(node_id, {}).items())]

    def groups(self) -> list[Group]:
        """Every group with a free slot, those on nodes that load nothing first."""
        return sorted(group for group, walks in self._walks.items() if len(walks.fastest))

    def fastest(self, group: Group) -> Iterator[Offer]:
        """A group's offers, the fastest first; of equal ones that which builds sooner, then by worker."""
        return (self._offers[worker_id] for _, worker_id in self._walks[group].fastest)

    def quickest(self, group: Group) -> Iterator[Offer]:
        """A group's offers, those that build soonest first; of equal ones the faster, then by worker."""
        return (self._offers[worker_id] for _, worker_id in self._walks[group].quickest)

    def check_integrity(self) -> None:
        """Raise AssertionError if an offer is not where its facts say."""
        assert self._offers == {name: offer for there in self._on_node.values() for name, offer in there.items()}
        for group, walks in self._walks.items():
            walks.fastest.check_integrity()
            walks.quickest.check_integrity()
            members = {name for name, offer in self._offers.items() if offer.group == group}
            assert {name for _, name in walks.fastest} == {name for _, name in walks.quickest} == members

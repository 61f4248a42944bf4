"""A machine of the simulated cluster: its tiers, its links, and the loads of its devices."""

from collections.abc import Callable
from dataclasses import dataclass, field

from kindling.scheduler.domain.promotions import Promotion
from kindling.scheduler.domain.values import Checkpoint, LoadReport, Tier, TierTraffic
from kindling.simulate.events import Events
from kindling.simulate.lru_tier import LruTier
from kindling.simulate.mechanisms import CHUNK_BYTES
from kindling.simulate.node_copies import NodeCopies
from kindling.simulate.node_prefetch import NodePrefetch
from kindling.simulate.node_profiles import NodeProfile

LoadDone = Callable[[LoadReport], None]
Read = Callable[[float], None]
"""Takes the seconds during which the checkpoint was read."""


@dataclass(slots=True)
class _Fetch:
    """Bytes on their way into DRAM, or in line for it until ``began``, and who waits for them."""

    source: Tier
    size_bytes: int
    began: float
    waiting: list[Read] = field(default_factory=list)


class SimulatedNode:
    """What DRAM has of a checkpoint comes from there, the rest from the fastest tier that has all; the links run at
    once, chunk by chunk.

    Checkpoints are fetched into DRAM one after the other, as storage managers do; one fetch serves all devices that
    wait for it. What comes from REMOTE is kept on the SSD, too. Each device copies from DRAM over its own link, which a
    CPU does not need: it computes on the pool. With ``chunk_bytes``, DRAM holds parts of checkpoints. A prefetch
    ends when a fetch begins, and does not delay it.
    """

    def __init__(self, node_id: str, profile: NodeProfile, events: Events, chunk_bytes: int = 0) -> None:
        self.node_id = node_id
        self.profile = profile
        self.dram = LruTier(profile.dram_pool_bytes, chunk_bytes)
        self.ssd = LruTier(profile.ssd_bytes)
        self.prefetch = NodePrefetch(self.dram, events)
        self.copies = NodeCopies(self.ssd, events)
        self._events = events
        self._copies = not profile.computes_on_pool
        self._fetches: dict[str, _Fetch] = {}
        self._next_turn = 0.0

    def source_of(self, digest: str) -> Tier:
        """The fastest tier that has all of a checkpoint."""
        if digest in self.dram:
            return Tier.DRAM
        return Tier.SSD if digest in self.ssd else Tier.REMOTE

    def load(self, checkpoint: Checkpoint, done: LoadDone) -> Tier:
        """Bring a checkpoint to a device; returns the slowest tier that it comes from.

        It stays in DRAM until it is copied from there or, on a CPU, until ``release``.
        """
        self.dram.pin(checkpoint.digest)
        if checkpoint.digest not in self.dram:
            self.prefetch.cut()
            self.copies.cut()
        self.prefetch.note_use(checkpoint.digest)
        self.copies.note_use(checkpoint.digest)
        began, source = self._events.now, self.source_of(checkpoint.digest)
        fetch = None if source is Tier.DRAM else self._fetch(checkpoint, source)
        copy_seconds = self._copy_seconds(checkpoint.total_bytes)

        def ready(read_seconds: float) -> None:
            if self._copies:
                self.dram.unpin(checkpoint.digest)
            done(self._report(checkpoint, fetch, read_seconds, began))

        def finish(read_seconds: float) -> None:
            self._events.at(began + copy_seconds, lambda: ready(read_seconds))

        if fetch is None:
            self.dram.put(checkpoint.digest, checkpoint.total_bytes)
            finish(copy_seconds)
            return source
        fetch.waiting.append(finish)
        return fetch.source

    def hold(self, checkpoint: Checkpoint) -> None:
        """A device takes up again what it has parked; a CPU has that in DRAM, where it stays until ``release``."""
        if not self._copies:
            self.dram.pin(checkpoint.digest)
            self.dram.put(checkpoint.digest, checkpoint.total_bytes)

    def park(self, digest: str) -> None:
        """A device keeps what it has released; a CPU keeps it in DRAM."""
        if not self._copies:
            self.dram.park(digest)

    def can_prefetch(self, promotion: Promotion) -> bool:
        """Whether nothing is fetched, the SSD has all of the checkpoint, and DRAM has room for a chunk of it; or that
        has room for a copy."""
        if promotion.to is Tier.SSD:
            return not self._fetches and self.copies.can_begin(promotion)
        room_bytes = self.dram.room_bytes(promotion.digest, promotion.give_way)
        return not self._fetches and promotion.digest in self.ssd and room_bytes >= CHUNK_BYTES

    def release(self, digest: str) -> None:
        """A device is done with a checkpoint."""
        if not self._copies:
            self.dram.unpin(digest)

    def take_changed(self) -> set[str]:
        """The checkpoints of which DRAM or SSD hold something else than when this was asked last."""
        changed = self.dram.changed | self.ssd.changed
        self.dram.changed.clear()
        self.ssd.changed.clear()
        return changed

    def _copy_seconds(self, size_bytes: int) -> float:
        bytes_per_second = self.profile.bandwidth_bytes_per_second.get(Tier.DRAM)
        return size_bytes / bytes_per_second if bytes_per_second else 0.0

    def _fetch(self, checkpoint: Checkpoint, source: Tier) -> _Fetch:
        digest = checkpoint.digest
        if digest not in self._fetches:
            size_bytes = checkpoint.total_bytes - self.dram.held_bytes(digest)
            self.dram.reserve(digest, checkpoint.total_bytes)
            fetch = self._fetches[digest] = _Fetch(source, size_bytes, max(self._events.now, self._next_turn))
            seconds = size_bytes / self.profile.bandwidth_bytes_per_second[source]
            self._next_turn = fetch.began + seconds
            self._events.at(self._next_turn, lambda: self._arrive(checkpoint))
        return self._fetches[digest]

    def _arrive(self, checkpoint: Checkpoint) -> None:
        fetch = self._fetches.pop(checkpoint.digest)
        if fetch.source is Tier.REMOTE:
            self.ssd.put(checkpoint.digest, checkpoint.total_bytes)
        self.dram.put(checkpoint.digest, checkpoint.total_bytes)
        for done in fetch.waiting:
            done(self._events.now - fetch.began)

    def _report(self, checkpoint: Checkpoint, fetch: _Fetch | None, read_seconds: float, began: float) -> LoadReport:
        """What the planner learns bandwidths from: who joined a fetch late has not read faster for it."""
        seconds = self._events.now - began
        fetched_bytes = fetch.size_bytes if fetch else 0
        head_bytes = checkpoint.total_bytes - fetched_bytes
        traffic = [TierTraffic(Tier.DRAM, head_bytes, self._copy_seconds(head_bytes))] if head_bytes else []
        if fetch is not None:
            traffic.append(TierTraffic(fetch.source, fetched_bytes, read_seconds))
        return LoadReport(tuple(traffic), seconds, self.profile.init_seconds, seconds, complete=True)

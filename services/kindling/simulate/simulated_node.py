"""A machine of the simulated cluster: its tiers, its links, and the loads of its devices."""

from collections.abc import Callable
from dataclasses import dataclass, field

from kindling.scheduler.domain.values import Checkpoint, LoadReport, Tier, TierTraffic
from kindling.simulate.events import Events
from kindling.simulate.lru_tier import LruTier
from kindling.simulate.node_profiles import NodeProfile

LoadDone = Callable[[LoadReport], None]
Read = Callable[[float], None]
"""Takes the seconds during which the checkpoint was read."""


@dataclass(slots=True)
class _Fetch:
    """Bytes on their way into DRAM, or in line for it until ``began``, and who waits for them."""

    source: Tier
    began: float
    waiting: list[Read] = field(default_factory=list)


class SimulatedNode:
    """Bytes come from the fastest tier that has all of a checkpoint; all links on the way run at once, chunk by chunk.

    Checkpoints are fetched into DRAM one after the other, as storage managers do; one fetch serves all devices that
    wait for it. What comes from REMOTE is kept on the SSD, too. Each device copies from DRAM over its own link, which a
    CPU does not need: it computes on the pool.
    """

    def __init__(self, node_id: str, profile: NodeProfile, events: Events) -> None:
        self.node_id = node_id
        self.profile = profile
        self.dram = LruTier(profile.dram_pool_bytes)
        self.ssd = LruTier(profile.ssd_bytes)
        self._events = events
        self._copies = Tier.DRAM in profile.bandwidth_bytes_per_second
        self._fetches: dict[str, _Fetch] = {}
        self._next_turn = 0.0

    def source_of(self, digest: str) -> Tier:
        """The fastest tier that has a checkpoint."""
        if digest in self.dram:
            return Tier.DRAM
        return Tier.SSD if digest in self.ssd else Tier.REMOTE

    def load(self, checkpoint: Checkpoint, done: LoadDone) -> Tier:
        """Bring a checkpoint to a device; returns where it comes from.

        It stays in DRAM until it is copied from there or, on a CPU, until ``release``.
        """
        self.dram.pin(checkpoint.digest)
        began, source = self._events.now, self.source_of(checkpoint.digest)
        if (fetch := self._fetches.get(checkpoint.digest)) is not None:
            source = fetch.source
        copy_seconds = self._copy_seconds(checkpoint)

        def ready(read_seconds: float) -> None:
            if self._copies:
                self.dram.unpin(checkpoint.digest)
            done(self._report(checkpoint, source, read_seconds, began))

        def finish(read_seconds: float) -> None:
            ready_at = max(self._events.now, began + max(copy_seconds, self.profile.init_seconds))
            self._events.at(ready_at, lambda: ready(read_seconds))

        if source is Tier.DRAM:
            self.dram.put(checkpoint.digest, checkpoint.total_bytes)
            finish(copy_seconds)
        else:
            self._fetch(checkpoint, source).waiting.append(finish)
        return source

    def release(self, digest: str) -> None:
        """A device is done with a checkpoint."""
        if not self._copies:
            self.dram.unpin(digest)

    def _copy_seconds(self, checkpoint: Checkpoint) -> float:
        bytes_per_second = self.profile.bandwidth_bytes_per_second.get(Tier.DRAM)
        return checkpoint.total_bytes / bytes_per_second if bytes_per_second else 0.0

    def _fetch(self, checkpoint: Checkpoint, source: Tier) -> _Fetch:
        digest = checkpoint.digest
        if digest not in self._fetches:
            fetch = self._fetches[digest] = _Fetch(source, max(self._events.now, self._next_turn))
            seconds = checkpoint.total_bytes / self.profile.bandwidth_bytes_per_second[source]
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

    def _report(self, checkpoint: Checkpoint, source: Tier, read_seconds: float, began: float) -> LoadReport:
        """What the planner learns bandwidths from: who joined a fetch late has not read faster for it."""
        seconds = self._events.now - began
        traffic = (TierTraffic(source, checkpoint.total_bytes, read_seconds),)
        return LoadReport(traffic, seconds, self.profile.init_seconds, seconds, complete=True)

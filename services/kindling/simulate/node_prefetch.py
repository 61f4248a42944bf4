"""What a machine of the simulated cluster brings from its SSD to DRAM before anybody asks for it."""

from collections.abc import Callable
from dataclasses import dataclass

from kindling.scheduler.domain.promotions import Promotion
from kindling.scheduler.domain.values import Checkpoint
from kindling.simulate.events import Events
from kindling.simulate.lru_tier import LruTier
from kindling.simulate.mechanisms import CHUNK_BYTES
from kindling.simulate.prefetch_tally import PrefetchTally

PrefetchEnded = Callable[[bool], None]
"""Takes whether the whole head was brought."""


@dataclass(frozen=True, slots=True)
class _Transfer:
    promotion: Promotion
    checkpoint: Checkpoint
    held_bytes: int
    began: float
    ended: PrefetchEnded

    @property
    def missing_bytes(self) -> int:
        return self.promotion.head_bytes - self.held_bytes

    @property
    def seconds(self) -> float:
        return self.missing_bytes / self.promotion.bytes_per_second


class NodePrefetch:
    """One head at a time, as fast as the promotion allows; the chunks that have come are kept if it is cut short.

    Room is made as in the storage manager's pool, but at once, when the transfer ends: what is free, then the tails of
    what may give way. No more than the promotion's limit are bytes that were brought and not used yet.
    """

    def __init__(self, dram: LruTier, events: Events) -> None:
        self.tally = PrefetchTally()
        self._dram = dram
        self._events = events
        self._running: _Transfer | None = None
        self._unused_from: dict[str, int] = {}  # by checkpoint: where the bytes begin that nobody has used

    def begin(self, promotion: Promotion, checkpoint: Checkpoint, ended: PrefetchEnded) -> None:
        """Bring what is missing of a head; ``ended`` is called at the end, or when it is cut short."""
        assert self._running is None, "one at a time"
        held_bytes = self._dram.held_bytes(checkpoint.digest)
        one = self._running = _Transfer(promotion, checkpoint, held_bytes, self._events.now, ended)
        self._events.meanwhile(self._events.now + one.seconds, lambda: self._finish(one))

    def cut(self) -> None:
        """Somebody needs the link: end the transfer that runs, if any."""
        if (one := self._running) is not None:
            moved_bytes = int((self._events.now - one.began) * one.promotion.bytes_per_second)
            self._end(one, min(one.missing_bytes, moved_bytes // CHUNK_BYTES * CHUNK_BYTES))

    def note_use(self, digest: str) -> None:
        """A checkpoint is loaded: what was brought of it was worth it."""
        if used_bytes := self._unused_bytes(digest):
            self.tally.hits += 1
            self.tally.hit_bytes += used_bytes
        self._unused_from.pop(digest, None)

    def _finish(self, one: _Transfer) -> None:
        if self._running is one:
            self._end(one, one.missing_bytes)

    def _end(self, one: _Transfer, moved_bytes: int) -> None:
        self._running = None
        self._keep(one, moved_bytes)
        one.ended(self._dram.held_bytes(one.checkpoint.digest) >= one.promotion.head_bytes)

    def _keep(self, one: _Transfer, moved_bytes: int) -> None:
        digest, give_way = one.checkpoint.digest, one.promotion.give_way
        allowed_bytes = self._allowed_bytes(one.promotion, moved_bytes)
        self._dram.put_head(digest, one.checkpoint.total_bytes, one.held_bytes + allowed_bytes, give_way)
        if brought_bytes := self._dram.held_bytes(digest) - one.held_bytes:
            self.tally.prefetched_bytes += brought_bytes
            self._unused_from[digest] = min(one.held_bytes, self._unused_from.get(digest, one.held_bytes))

    def _allowed_bytes(self, promotion: Promotion, wanted_bytes: int) -> int:
        """How many more may wait for a use, once others of that kind have given way."""
        for one in promotion.give_way:
            excess_bytes = self._all_unused_bytes() + wanted_bytes - promotion.unused_limit_bytes
            spare_bytes = self._dram.held_bytes(one.digest) - one.keep_bytes
            if excess_bytes > 0 and spare_bytes > 0:
                self._dram.cut(one.digest, min(excess_bytes, spare_bytes, self._unused_bytes(one.digest)))
        left_bytes = max(0, promotion.unused_limit_bytes - self._all_unused_bytes())
        return wanted_bytes if left_bytes >= wanted_bytes else left_bytes // CHUNK_BYTES * CHUNK_BYTES

    def _all_unused_bytes(self) -> int:
        return sum(map(self._unused_bytes, self._unused_from))

    def _unused_bytes(self, digest: str) -> int:
        begins = self._unused_from.get(digest)
        return 0 if begins is None else max(0, self._dram.held_bytes(digest) - begins)

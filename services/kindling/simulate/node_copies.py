"""What a machine of the simulated cluster copies from the remote store to its SSD before anybody asks for it."""

from dataclasses import dataclass

from kindling.scheduler.domain.promotions import Promotion
from kindling.scheduler.domain.values import Checkpoint
from kindling.simulate.events import Events
from kindling.simulate.lru_tier import LruTier
from kindling.simulate.mechanisms import CHUNK_BYTES
from kindling.simulate.node_prefetch import PrefetchEnded
from kindling.simulate.prefetch_tally import PrefetchTally


@dataclass(frozen=True, slots=True)
class _Transfer:
    promotion: Promotion
    checkpoint: Checkpoint
    begins_at_bytes: int
    began: float
    ended: PrefetchEnded


class NodeCopies:
    """One copy at a time, as fast as the promotion allows. What has come of one that is cut short is gone on with by
    the next one, as far as it is whole chunks; it takes no room, and a load does not use it.
    """

    def __init__(self, ssd: LruTier, events: Events) -> None:
        self.tally = PrefetchTally()
        self._ssd = ssd
        self._events = events
        self._running: _Transfer | None = None
        self._parts: dict[str, int] = {}  # bytes of copies that were cut short
        self._unused: dict[str, int] = {}  # bytes of copies that no load has used

    def begin(self, promotion: Promotion, checkpoint: Checkpoint, ended: PrefetchEnded) -> None:
        """Copy what is missing; ``ended`` is called at the end, or when it is cut short."""
        assert self._running is None, "one at a time"
        have_bytes = self._parts.get(promotion.digest, 0)
        one = self._running = _Transfer(promotion, checkpoint, have_bytes, self._events.now, ended)
        seconds = (checkpoint.total_bytes - have_bytes) / promotion.bytes_per_second
        self._events.meanwhile(self._events.now + seconds, lambda: self._finish(one))

    def can_begin(self, promotion: Promotion) -> bool:
        """Whether nothing is copied, and there is room for a copy that is within the bound, or can be made."""
        is_bounded = sum(self._unused.values()) + promotion.head_bytes <= promotion.unused_limit_bytes
        has_room = self._ssd.room_bytes(promotion.digest, promotion.give_way) >= promotion.head_bytes
        return self._running is None and promotion.digest not in self._ssd and is_bounded and has_room

    def cut(self) -> None:
        """Somebody needs the link: end the copy that runs, if any."""
        if (one := self._running) is not None:
            self._running = None
            moved_bytes = int((self._events.now - one.began) * one.promotion.bytes_per_second)
            kept_bytes = moved_bytes // CHUNK_BYTES * CHUNK_BYTES
            self._parts[one.promotion.digest] = one.begins_at_bytes + kept_bytes
            self.tally.prefetched_bytes += kept_bytes
            one.ended(False)

    def note_use(self, digest: str) -> None:
        """A checkpoint is loaded: a copy of it that was made before was worth it."""
        self._parts.pop(digest, None)
        self._forget_lost()
        if used_bytes := self._unused.pop(digest, 0):
            self.tally.hits += 1
            self.tally.hit_bytes += used_bytes

    def _finish(self, one: _Transfer) -> None:
        if self._running is one:
            self._running = None
            digest, total_bytes = one.promotion.digest, one.checkpoint.total_bytes
            self._parts.pop(digest, None)
            self.tally.prefetched_bytes += total_bytes - one.begins_at_bytes
            self._ssd.put_head(digest, total_bytes, total_bytes, one.promotion.give_way)
            self._unused[digest] = total_bytes
            self._forget_lost()
            one.ended(digest in self._ssd)

    def _forget_lost(self) -> None:
        self._unused = {digest: size for digest, size in self._unused.items() if digest in self._ssd}

"""The book-keeping of the DRAM tier: which buffer holds which chunk, what is pinned, what goes first.

A checkpoint in the pool holds its first chunks, without a gap: growing adds at the tail, evicting takes from the tail.
Memory itself is a port; here buffers are numbers.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from kindling.platform.errors import InternalError
from kindling.storage.domain.give_way import GiveWay
from kindling.storage.domain.prefetch_tally import PrefetchTally


@dataclass(slots=True)
class Occupant:
    """A checkpoint in the pool. ``filled`` chunks from the head have verified bytes; the rest are being filled.

    Those from ``unused_from`` on were prefetched, and nobody has opened the checkpoint since.
    """

    lengths: tuple[int, ...]
    buffers: list[int] = field(default_factory=list)
    filled: int = 0
    pins: int = 0
    parked: bool = False
    last_used: int = 0
    unused_from: int | None = None

    @property
    def unused_bytes(self) -> int:
        """Bytes that were prefetched and not used since."""
        return 0 if self.unused_from is None else sum(self.lengths[self.unused_from : self.filled])

    def bytes_of(self, chunks: int) -> int:
        """Bytes in the first ``chunks`` chunks."""
        return sum(self.lengths[:chunks])


class ChunkPool:
    """A fixed number of equal buffers, shared by checkpoints; the least recently used one gives way, tail first.

    ``head_fraction`` of each checkpoint gives way only when no checkpoint has more than that left, so that many models
    can start at once while their tails stream in.
    """

    def __init__(self, buffer_count: int, buffer_bytes: int, head_fraction: float = 0.25) -> None:
        self.buffer_count = buffer_count
        self.buffer_bytes = buffer_bytes
        self._head_fraction = head_fraction
        # A stack: buffers used before lie on top, since their pages are there already.
        self._free = list(reversed(range(buffer_count)))
        self._borrowed: set[int] = set()
        self._occupants: dict[str, Occupant] = {}
        self._uses = 0
        self._cut_since: set[str] = set()
        self.tally = PrefetchTally()

    def pin(self, digest: str, lengths: Sequence[int]) -> None:
        """Keep what the pool has of ``digest`` until :meth:`unpin`; pins count."""
        occupant = self._occupants.setdefault(digest, Occupant(tuple(lengths)))
        occupant.pins += 1
        occupant.parked = False
        self._touch(occupant)

    def set_parked(self, digest: str, *, parked: bool) -> None:
        """Say whether the pins of ``digest`` would be given back if they stood in the way; they do not count then."""
        occupant = self._occupants.get(digest)
        if occupant is not None:
            occupant.parked = parked

    def unpin(self, digest: str) -> None:
        """Take one pin back. After the last one, chunks that were not filled are dropped."""
        occupant = self._occupants[digest]
        occupant.pins -= 1
        self._touch(occupant)
        if occupant.pins == 0:
            self._cut(digest, occupant.filled)

    def grow(self, digest: str, chunks: int) -> tuple[int, ...]:
        """Give the pinned ``digest`` buffers for its first ``chunks`` chunks, or for as many as can be had.

        Evicts others as needed. Returns the buffers that are new; their old content must not be seen by anybody.
        """
        occupant = self._occupants[digest]
        if occupant.pins == 0:
            raise InternalError(f"{digest} grows without a pin", reason="POOL_BROKEN")
        before = len(occupant.buffers)
        while len(occupant.buffers) < chunks and (self._free or self._evict_one()):
            occupant.buffers.append(self._free.pop())
        return tuple(occupant.buffers[before:])

    def mark_filled(self, digest: str, chunks: int) -> None:
        """Note that the first ``chunks`` chunks have verified bytes."""
        occupant = self._occupants[digest]
        occupant.filled = max(occupant.filled, min(chunks, len(occupant.buffers)))

    def make_prefetch_room(self, digest: str, give_way: Sequence[GiveWay], unused_limit_bytes: int) -> int | None:
        """Give the pinned ``digest`` a buffer for one more chunk; none if that is not to be had.

        Only a free buffer is used, or one from the tail of the first of ``give_way`` that nobody has pinned and that
        has more than it keeps; and not more than ``unused_limit_bytes`` in all are prefetched bytes that nobody has
        used yet.
        """
        occupant = self._occupants[digest]
        others = [one for one in give_way if one.digest != digest and self._unpinned(one.digest)]
        length = occupant.lengths[len(occupant.buffers)]
        while self.unused_bytes + length > unused_limit_bytes:
            if not self._shorten_first(one.digest for one in others if self._has_unused(one)):
                return None
        if not self._free and not self._shorten_first(one.digest for one in others if self._has_spare(one)):
            return None
        buffer = self._free.pop()
        occupant.buffers.append(buffer)
        return buffer

    def mark_prefetched(self, digest: str) -> None:
        """Note that the chunk that room was made for last has verified bytes, which nobody asked for yet."""
        occupant = self._occupants[digest]
        if occupant.unused_from is None:
            occupant.unused_from = occupant.filled
        self.tally.prefetched_bytes += occupant.lengths[occupant.filled]
        occupant.filled += 1

    def note_use(self, digest: str) -> None:
        """Note that somebody opens ``digest``: what was prefetched of it was worth it."""
        occupant = self._occupants.get(digest)
        if occupant is not None and occupant.unused_from is not None:
            self.tally.hits += 1
            self.tally.hit_bytes += occupant.unused_bytes
            occupant.unused_from = None

    def take_cut(self) -> set[str]:
        """The checkpoints that have lost chunks since this was asked last."""
        cut, self._cut_since = self._cut_since, set()
        return cut

    def evict(self, digest: str) -> int:
        """Drop ``digest`` unless it is pinned; return the bytes dropped."""
        occupant = self._occupants.get(digest)
        if occupant is None or occupant.pins:
            return 0
        dropped = occupant.bytes_of(len(occupant.buffers))
        self._cut(digest, 0)
        return dropped

    def borrow(self, count: int) -> tuple[int, ...]:
        """Take up to ``count`` buffers that are free, for no checkpoint; they are :meth:`give_back`'s to return."""
        borrowed = tuple(self._free.pop() for _ in range(min(count, len(self._free))))
        self._borrowed.update(borrowed)
        return borrowed

    def give_back(self, buffers: Sequence[int]) -> None:
        """Return borrowed buffers."""
        self._borrowed.difference_update(buffers)
        self._free.extend(reversed(buffers))

    def buffers(self, digest: str) -> tuple[int, ...]:
        """The buffers of ``digest``, from its first chunk on."""
        occupant = self._occupants.get(digest)
        return tuple(occupant.buffers) if occupant else ()

    def filled_chunks(self, digest: str) -> int:
        """How many chunks of ``digest``, from the head, can be read."""
        occupant = self._occupants.get(digest)
        return occupant.filled if occupant else 0

    def filled_bytes(self, digest: str) -> int:
        """Bytes of ``digest`` that can be read."""
        occupant = self._occupants.get(digest)
        return occupant.bytes_of(occupant.filled) if occupant else 0

    def holds_all(self, digest: str) -> bool:
        """Whether every chunk of ``digest`` can be read here."""
        occupant = self._occupants.get(digest)
        return occupant is not None and occupant.filled == len(occupant.lengths)

    def digests(self) -> tuple[str, ...]:
        """The checkpoints with at least one buffer."""
        return tuple(digest for digest, occupant in self._occupants.items() if occupant.buffers)

    @property
    def used_bytes(self) -> int:
        """Bytes of chunks that hold a buffer."""
        return sum(occupant.bytes_of(len(occupant.buffers)) for occupant in self._occupants.values())

    @property
    def pinned_bytes(self) -> int:
        """Bytes of chunks that may not be evicted."""
        pinned = (occupant for occupant in self._occupants.values() if occupant.pins and not occupant.parked)
        return sum(occupant.bytes_of(len(occupant.buffers)) for occupant in pinned)

    @property
    def unused_bytes(self) -> int:
        """Bytes that were prefetched and not used since."""
        return sum(occupant.unused_bytes for occupant in self._occupants.values())

    @property
    def available_buffers(self) -> int:
        """Buffers that are free or can be evicted."""
        return len(self._free) + sum(len(o.buffers) for o in self._occupants.values() if not o.pins)

    def room_for(self, digest: str) -> int:
        """Buffers that ``digest`` has or could be given now."""
        return len(self.buffers(digest)) + self.available_buffers

    def _touch(self, occupant: Occupant) -> None:
        self._uses += 1
        occupant.last_used = self._uses

    def _evict_one(self) -> bool:
        candidates = [(self._order(o), digest) for digest, o in self._occupants.items() if not o.pins and o.buffers]
        if not candidates:
            return False
        return self._shorten_first([min(candidates)[1]])

    def _shorten_first(self, digests: Iterable[str]) -> bool:
        """Take the last buffer of the first of ``digests``, if there is one; each has some."""
        digest = next(iter(digests), None)
        if digest is None:
            return False
        self._cut(digest, len(self._occupants[digest].buffers) - 1)
        return True

    def _has_unused(self, one: GiveWay) -> bool:
        """Whether the last buffer of what may be shortened was prefetched, and not used since."""
        return self._has_spare(one) and self._occupants[one.digest].unused_from is not None

    def _has_spare(self, one: GiveWay) -> bool:
        occupant = self._occupants.get(one.digest)
        return occupant is not None and occupant.bytes_of(len(occupant.buffers) - 1) >= one.keep_bytes

    def _unpinned(self, digest: str) -> bool:
        occupant = self._occupants.get(digest)
        return occupant is not None and not occupant.pins and bool(occupant.buffers)

    def _order(self, occupant: Occupant) -> tuple[bool, int]:
        head_chunks = math.ceil(len(occupant.lengths) * self._head_fraction)
        return len(occupant.buffers) <= head_chunks, occupant.last_used

    def _cut(self, digest: str, keep: int) -> None:
        occupant = self._occupants[digest]
        if occupant.buffers[keep:]:
            self._cut_since.add(digest)
        self._free.extend(reversed(occupant.buffers[keep:]))
        del occupant.buffers[keep:]
        self._count_waste(occupant, keep)
        occupant.filled = min(occupant.filled, keep)
        if not occupant.buffers and not occupant.pins:
            del self._occupants[digest]

    def _count_waste(self, occupant: Occupant, keep: int) -> None:
        if occupant.unused_from is not None:
            self.tally.wasted_bytes += sum(occupant.lengths[max(keep, occupant.unused_from) : occupant.filled])
            if keep <= occupant.unused_from:
                occupant.unused_from = None
                self.tally.misses += 1

    def check_integrity(self) -> None:
        """Raise InternalError if the books do not add up."""
        held = [buffer for occupant in self._occupants.values() for buffer in occupant.buffers]
        if sorted([*held, *self._free, *self._borrowed]) != list(range(self.buffer_count)):
            raise InternalError("a buffer is held twice or by nobody", reason="POOL_BROKEN")
        for digest, occupant in self._occupants.items():
            _check_occupant(digest, occupant)


def _check_occupant(digest: str, occupant: Occupant) -> None:
    if not 0 <= occupant.filled <= len(occupant.buffers) <= len(occupant.lengths):
        raise InternalError(f"{digest} has more filled chunks than buffers or chunks", reason="POOL_BROKEN")
    if occupant.pins < 0 or (occupant.pins == 0 and occupant.filled != len(occupant.buffers)):
        raise InternalError(f"{digest} is not pinned and not filled", reason="POOL_BROKEN")

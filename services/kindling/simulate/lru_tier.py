"""A tier that holds checkpoints, as many as fit."""

import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from kindling.scheduler.domain.promotions import GiveWay

HEAD_SHARE: Final = 0.25
"""The part of a checkpoint that gives way last, as in the storage manager's chunk pool."""


@dataclass(slots=True)
class _Occupant:
    total_bytes: int
    held_bytes: int = 0


class LruTier:
    """Least recently used checkpoints give way, but for those that are pinned.

    They give way whole; with ``chunk_bytes``, only as many chunks from their tails as it takes, and their heads not
    before all tails are gone. ``changed`` collects the checkpoints of which something else is held than before;
    ``on_lost`` hears of each that has lost some of it.

    What is parked is not cut. Where the rest does not make enough room, it is taken back, the longest parked first, and
    gives way like the others then: as in the storage manager. ``on_lost`` hears of that too.
    """

    def __init__(self, capacity_bytes: int, chunk_bytes: int = 0) -> None:
        self.changed: set[str] = set()
        self.on_lost: Callable[[str], None] = lambda _: None
        self.used_bytes = 0
        self._capacity_bytes = capacity_bytes
        self._chunk_bytes = chunk_bytes
        self._occupants: OrderedDict[str, _Occupant] = OrderedDict()
        self._pins: Counter[str] = Counter()
        self._reserved: dict[str, int] = {}  # bytes, which count as used
        self._parked: dict[str, None] = {}  # in the order of parking

    def __contains__(self, digest: str) -> bool:
        """Whether all of a checkpoint is held."""
        one = self._occupants.get(digest)
        return one is not None and one.held_bytes == one.total_bytes

    def held_bytes(self, digest: str) -> int:
        """Bytes of a checkpoint that are held, from its head."""
        one = self._occupants.get(digest)
        return one.held_bytes if one else 0

    def digests(self) -> frozenset[str]:
        """The checkpoints of which something is held."""
        return frozenset(self._occupants)

    def put(self, digest: str, total_bytes: int) -> None:
        """Hold a checkpoint if room can be made, in chunks as much of its head as fits; it is the last to give way."""
        self.used_bytes -= self._reserved.pop(digest, 0)
        room_bytes = self._room(digest, total_bytes)
        if digest in self._occupants or room_bytes:
            self._occupants.setdefault(digest, _Occupant(total_bytes))
            self._resize(digest, self.held_bytes(digest) + room_bytes)
            self._occupants.move_to_end(digest)

    def reserve(self, digest: str, total_bytes: int) -> None:
        """Make the room now that a checkpoint is to be put in later."""
        if digest not in self._reserved:
            self._reserved[digest] = self._room(digest, total_bytes)
            self.used_bytes += self._reserved[digest]

    def room_bytes(self, digest: str, give_way: Sequence[GiveWay]) -> int:
        """How much more of a checkpoint could be held if what is in ``give_way`` did so."""
        kept = {one.digest: one.keep_bytes for one in sorted(self._giving_way(digest, give_way), key=_least_last)}
        could_go = (max(0, self.held_bytes(name) - keep_bytes) for name, keep_bytes in kept.items())
        return self._capacity_bytes - self.used_bytes + sum(could_go)

    def put_head(self, digest: str, total_bytes: int, head_bytes: int, give_way: Sequence[GiveWay]) -> None:
        """Hold the head of a checkpoint, as much of it as fits without others than those in ``give_way``, the first of
        which gives way first; it is the last to give way itself."""
        missing_bytes = head_bytes - self.held_bytes(digest)
        others = self._giving_way(digest, give_way)
        free_bytes = self._cut(others, missing_bytes, self._capacity_bytes - self.used_bytes)
        if free_bytes < missing_bytes and self._chunk_bytes:
            free_bytes = free_bytes // self._chunk_bytes * self._chunk_bytes
        if (room_bytes := min(missing_bytes, free_bytes)) > 0:
            self._occupants.setdefault(digest, _Occupant(total_bytes))
            self._resize(digest, self.held_bytes(digest) + room_bytes)
            self._occupants.move_to_end(digest)

    def cut(self, digest: str, size_bytes: int) -> None:
        """Drop so much from a checkpoint's tail, in chunks, if any of it is held and it is not pinned."""
        if digest in self._occupants and not self._pins[digest]:
            self._cut([GiveWay(digest)], size_bytes, 0)

    def drop(self, digest: str) -> None:
        """Hold nothing of a checkpoint."""
        if digest in self._occupants:
            self._resize(digest, 0)

    def park(self, digest: str) -> None:
        """Keep what is held of a checkpoint while there is other room."""
        self._parked[digest] = None

    def pin(self, digest: str) -> None:
        """Keep what is held of a checkpoint until it is unpinned as often; it is not parked then."""
        self._parked.pop(digest, None)
        self._pins[digest] += 1

    def unpin(self, digest: str) -> None:
        """Let a checkpoint give way again."""
        self._pins[digest] -= 1

    def _room(self, digest: str, total_bytes: int) -> int:
        """Make room for what is missing of a checkpoint, or for as many whole chunks of it as fits; returns it."""
        missing_bytes = total_bytes - self.held_bytes(digest)
        room_bytes = self._make_room(digest, missing_bytes)
        if room_bytes < missing_bytes:
            return room_bytes // self._chunk_bytes * self._chunk_bytes if self._chunk_bytes else 0
        return room_bytes

    def _giving_way(self, digest: str, ones: Sequence[GiveWay]) -> list[GiveWay]:
        return [
            one for one in ones if one.digest in self._occupants and one.digest != digest and not self._pins[one.digest]
        ]

    def _make_room(self, digest: str, size_bytes: int) -> int:
        """Drop as little as it takes, nothing if checkpoints give way whole and that does not help; returns the room,
        at most ``size_bytes``."""
        free_bytes = self._capacity_bytes - self.used_bytes
        self._take_back(digest, size_bytes - free_bytes)
        others = self._others(digest)
        if self._chunk_bytes:
            free_bytes = self._cut([GiveWay(name, self._head_bytes(name)) for name in others], size_bytes, free_bytes)
        elif free_bytes + sum(map(self.held_bytes, others)) < size_bytes:
            return max(0, free_bytes)
        return min(size_bytes, self._cut(list(map(GiveWay, others)), size_bytes, free_bytes))

    def _others(self, digest: str) -> list[str]:
        """The checkpoints that may give way to one, in order."""
        return [
            name for name in self._occupants if name not in self._parked and name != digest and not self._pins[name]
        ]

    def _take_back(self, digest: str, wanted_bytes: int) -> None:
        """End parking until the checkpoints that are not parked could make so much room."""
        for name in [parked for parked in self._parked if parked != digest]:
            if sum(map(self.held_bytes, self._others(digest))) >= wanted_bytes:
                break
            del self._parked[name]
            self._occupants.move_to_end(name)
            self.on_lost(name)

    def _cut(self, ones: list[GiveWay], size_bytes: int, free_bytes: int) -> int:
        """Drop from each in turn what it need not keep until so much is free; returns what is."""
        for one in ones:
            if free_bytes >= size_bytes:
                break
            held_bytes = self.held_bytes(one.digest)
            kept_bytes = min(held_bytes, self._kept_bytes(one, size_bytes - free_bytes))
            if held_bytes:
                self._resize(one.digest, kept_bytes)
            free_bytes += held_bytes - kept_bytes
        return free_bytes

    def _kept_bytes(self, one: GiveWay, wanted_bytes: int) -> int:
        """What stays of what is held: without chunks, all or nothing, as all but the head may go or not."""
        held_bytes = self.held_bytes(one.digest)
        if not self._chunk_bytes:
            return held_bytes if one.keep_bytes > self._head_bytes(one.digest) else 0
        kept_chunks = math.ceil(one.keep_bytes / self._chunk_bytes)
        left_chunks = (held_bytes - wanted_bytes) // self._chunk_bytes
        return max(kept_chunks, left_chunks, 0) * self._chunk_bytes

    def _head_bytes(self, digest: str) -> int:
        one = self._occupants.get(digest)
        return math.ceil(one.total_bytes * HEAD_SHARE) if one else 0

    def _resize(self, digest: str, held_bytes: int) -> None:
        one = self._occupants[digest]
        if one.held_bytes != held_bytes:
            self.changed.add(digest)
        was_bytes, one.held_bytes = one.held_bytes, held_bytes
        self.used_bytes += held_bytes - was_bytes
        if not held_bytes:
            del self._occupants[digest]
            self._parked.pop(digest, None)
        if held_bytes < was_bytes:
            self.on_lost(digest)


def _least_last(one: GiveWay) -> int:
    return -one.keep_bytes

"""A tier that holds whole checkpoints, as many as fit."""

from collections import Counter, OrderedDict


class LruTier:
    """Least recently used checkpoints give way, but for those that are pinned."""

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity_bytes = capacity_bytes
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._pins: Counter[str] = Counter()

    def __contains__(self, digest: str) -> bool:
        return digest in self._sizes

    @property
    def used_bytes(self) -> int:
        """Bytes of all checkpoints held."""
        return sum(self._sizes.values())

    def put(self, digest: str, size_bytes: int) -> list[str]:
        """Hold a checkpoint if room can be made, as the most recently used; returns who gave way."""
        if digest in self._sizes:
            self._sizes.move_to_end(digest)
            return []
        gone = self._make_room(size_bytes)
        if self.used_bytes + size_bytes <= self._capacity_bytes:
            self._sizes[digest] = size_bytes
        return gone

    def pin(self, digest: str) -> None:
        """Keep a checkpoint until it is unpinned as often."""
        self._pins[digest] += 1

    def unpin(self, digest: str) -> None:
        """Let a checkpoint give way again."""
        self._pins[digest] -= 1

    def _make_room(self, size_bytes: int) -> list[str]:
        """Drop as few as it takes; none if that does not help."""
        used_bytes, dropped = self.used_bytes, []
        for digest, held_bytes in self._sizes.items():
            if used_bytes + size_bytes <= self._capacity_bytes:
                break
            if not self._pins[digest]:
                dropped.append(digest)
                used_bytes -= held_bytes
        if used_bytes + size_bytes > self._capacity_bytes:
            return []
        for digest in dropped:
            del self._sizes[digest]
        return dropped

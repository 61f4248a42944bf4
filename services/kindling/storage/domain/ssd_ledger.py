"""The book-keeping of the SSD tier: which sealed copies there are, their sizes, pins and order of use."""

from dataclasses import dataclass

from kindling.platform.errors import InternalError
from kindling.storage.domain.prefetch_tally import PrefetchTally


@dataclass(slots=True)
class SsdEntry:
    """A copy, sealed or being written."""

    size_bytes: int
    pins: int = 0
    sealed: bool = False
    last_used: int = 0
    unused_bytes: int = 0  # prefetched, and nobody has opened the checkpoint since


class SsdLedger:
    """Copies in a node's cache directory. A capacity of 0 means that only the file system bounds it."""

    def __init__(self, capacity_bytes: int = 0) -> None:
        self.capacity_bytes = capacity_bytes
        self._entries: dict[str, SsdEntry] = {}
        self._uses = 0
        self.tally = PrefetchTally()

    def add(self, digest: str, size_bytes: int, *, sealed: bool) -> None:
        """Note a copy, unpinned; it counts as just used."""
        self._entries[digest] = SsdEntry(size_bytes, sealed=sealed)
        self.use(digest)

    def seal(self, digest: str) -> None:
        """Note that the copy is complete."""
        self._entries[digest].sealed = True

    def remove(self, digest: str) -> None:
        """Forget the copy, if there is one."""
        entry = self._entries.pop(digest, None)
        if entry is not None and entry.unused_bytes:
            self.tally.misses += 1
            self.tally.wasted_bytes += entry.unused_bytes

    def mark_prefetched(self, digest: str, size_bytes: int) -> None:
        """Note that so much of the copy was written before anybody asked for it."""
        self._entries[digest].unused_bytes += size_bytes
        self.tally.prefetched_bytes += size_bytes

    def note_use(self, digest: str) -> None:
        """Note that somebody opens the checkpoint: what was prefetched of its copy was worth it."""
        entry = self._entries.get(digest)
        if entry is not None and entry.unused_bytes:
            self.tally.hits += 1
            self.tally.hit_bytes += entry.unused_bytes
            entry.unused_bytes = 0

    def pin(self, digest: str) -> None:
        """Keep the copy until :meth:`unpin`."""
        self._entries[digest].pins += 1
        self.use(digest)

    def unpin(self, digest: str) -> None:
        """Take one pin back; a copy that was removed meanwhile is no error."""
        if digest in self._entries:
            self._entries[digest].pins -= 1
            self.use(digest)

    def use(self, digest: str) -> None:
        """Make the copy the most recently used one."""
        self._uses += 1
        self._entries[digest].last_used = self._uses

    def has(self, digest: str) -> bool:
        """Whether there is a sealed copy."""
        return digest in self._entries and self._entries[digest].sealed

    def has_partial(self, digest: str) -> bool:
        """Whether there is a copy that was not sealed."""
        return digest in self._entries and not self._entries[digest].sealed

    def is_pinned(self, digest: str) -> bool:
        """Whether the copy, if there is one, may not be evicted."""
        return digest in self._entries and self._entries[digest].pins > 0

    def size_bytes(self, digest: str) -> int:
        """Bytes of the sealed copy; 0 without one."""
        return self._entries[digest].size_bytes if self.has(digest) else 0

    def digests(self) -> tuple[str, ...]:
        """The checkpoints with a sealed copy."""
        return tuple(digest for digest, entry in self._entries.items() if entry.sealed)

    def next_victim(self) -> str | None:
        """The least recently used copy that may be evicted."""
        candidates = [(e.last_used, digest) for digest, e in self._entries.items() if not e.pins]
        return min(candidates)[1] if candidates else None

    def fits(self, size_bytes: int) -> bool:
        """Whether a copy of ``size_bytes`` stays within the capacity."""
        return not self.capacity_bytes or self.used_bytes + size_bytes <= self.capacity_bytes

    def could_fit(self, size_bytes: int) -> bool:
        """Whether it would fit if everything that may be evicted were."""
        return not self.capacity_bytes or self.pinned_bytes + size_bytes <= self.capacity_bytes

    @property
    def used_bytes(self) -> int:
        """Bytes of all copies."""
        return sum(entry.size_bytes for entry in self._entries.values())

    @property
    def unused_bytes(self) -> int:
        """Bytes that were prefetched and not used since."""
        return sum(entry.unused_bytes for entry in self._entries.values())

    @property
    def pinned_bytes(self) -> int:
        """Bytes of copies that may not be evicted."""
        return sum(entry.size_bytes for entry in self._entries.values() if entry.pins)

    def check_integrity(self) -> None:
        """Raise InternalError if the books do not add up."""
        if any(entry.pins < 0 for entry in self._entries.values()):
            raise InternalError("a copy was unpinned more often than pinned", reason="LEDGER_BROKEN")
        if self.capacity_bytes and self.used_bytes > self.capacity_bytes:
            raise InternalError("more bytes are cached than the capacity allows", reason="LEDGER_BROKEN")

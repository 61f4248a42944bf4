"""A link that is slower than the machine's, for tests and benchmarks of slow disks and stores."""


class RateLimit:
    """Books transfers one after the other at ``bytes_per_second``; 0 does not limit."""

    def __init__(self, bytes_per_second: int = 0) -> None:
        self._bytes_per_second = bytes_per_second
        self._free_at = 0.0

    def seconds(self, size_bytes: int) -> float:
        """The least time that ``size_bytes`` take."""
        return size_bytes / self._bytes_per_second if self._bytes_per_second else 0.0

    def reserve(self, size_bytes: int, now: float) -> float:
        """Book a transfer that begins ``now`` or when the earlier ones are done; return the time at which it ends."""
        if not self._bytes_per_second:
            return now
        self._free_at = max(self._free_at, now) + size_bytes / self._bytes_per_second
        return self._free_at

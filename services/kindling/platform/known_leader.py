"""Whose word counts: a scheduler that was deposed may not know it yet."""

from kindling.platform.errors import FailedPreconditionError


class KnownLeader:
    """The latest leader that a process has heard of, by the revision at which it was elected."""

    def __init__(self) -> None:
        self._revision = 0

    def heed(self, revision: int) -> None:
        """Take note of a leader; 0 is nobody's. Raises LEADER_DEPOSED if a later one is known."""
        if revision and revision < self._revision:
            raise FailedPreconditionError(
                f"the scheduler elected at revision {revision} was followed by the one elected at {self._revision}; if "
                "etcd was set back to an earlier state, start this process anew",
                reason="LEADER_DEPOSED",
                metadata={"revision": str(revision), "later_revision": str(self._revision)},
            )
        self._revision = max(self._revision, revision)

"""Who makes room for a prefetch."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GiveWay:
    """A checkpoint whose chunks may be dropped for another's, but for the first ``keep_bytes``."""

    digest: str
    keep_bytes: int = 0
